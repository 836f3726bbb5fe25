// Runs multimag.groovy (args: script, stand_in, folder, mode) on a project of the folder's slides, and prints what is in it.
def (script, standIn, folder, mode) = args
def loader = new GroovyClassLoader()
loader.parseClass(new File(standIn))
loader.parseClass("""package qupath.lib.io
class PathIO {
    enum GeoJsonExportOptions { FEATURE_COLLECTION, EXCLUDE_MEASUREMENTS, PRETTY_JSON }
    static readObjects(File file) { qupath.lib.Stand.objects(file) }
    static exportObjectsAsGeoJSON(File file, objects, GeoJsonExportOptions... options) {
        assert GeoJsonExportOptions.FEATURE_COLLECTION in options
        file.text = groovy.json.JsonOutput.toJson([type: "FeatureCollection", features: objects*.feature])
    }
}""")
loader.parseClass("""package qupath.lib.objects
class PathObjectTools {
    static transformObject(object, transform, boolean measurements) { object.at(transform.translateX, transform.translateY) }
}""")
def make = { name, values ->
    def made = loader.loadClass("qupath.lib." + name).getConstructor().newInstance()
    values.each { key, value -> made[key] = value }
    made
}
def cropped = ["openslide.level[0].width": "1000", "openslide.bounds-x": "300", "openslide.bounds-y": "40"]
def images = [["a.svs", [:], 1000], ["b.1.ome.tif - Series 0", [:], 1000], ["c.mrxs", cropped, 500], ["d.svs", cropped, 1000]]
def entries = images.collect { name, said, width ->
    def server = make("Server", [properties: said, width: width])
    make("Entry", [imageName: name, data: make("ImageData", [server: server])])
}
def drawn = new groovy.json.JsonSlurper().parseText(new File(folder, "drawn.json").text)
def byHand = loader.loadClass("qupath.lib.PathObject").getConstructor(Map)
entries.each { entry -> entry.data.hierarchy.addObjects([byHand.newInstance(drawn)]) }
def project = make("Project", [imageList: entries])
def binding = new Binding([args: [mode, folder] as String[]])
def shell = new GroovyShell(loader, binding)
def text = new File(script).text
2.times {
    def parsed = shell.parse(text)
    parsed.metaClass.getProject = { -> project }
    parsed.run()
}
def described = { [it.name, it.locked, it.feature.geometry.coordinates[0][0]] }
println "RESULT " + groovy.json.JsonOutput.toJson(entries.collectEntries { entry ->
    [entry.imageName, [saved: entry.saved, objects: entry.data.hierarchy.all.collect(described)]]
})
