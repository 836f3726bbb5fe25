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
def bounds = { x, y, width, height -> ["openslide.level[0].width": "1000", "openslide.level[0].height": "800",
        "openslide.bounds-x": "$x" as String, "openslide.bounds-y": "$y" as String,
        "openslide.bounds-width": "$width" as String, "openslide.bounds-height": "$height" as String] }
def damaged = bounds(300, 40, 500, 600) + ["openslide.bounds-x": "none"]
// Cropped, not cropped, cropped at the top only, not cropped as its bounds are damaged.
def images = [["a.svs", [:], 1000, 800], ["b.1.ome.tif - Series 0", [:], 1000, 800],
        ["c.mrxs", bounds(300, 40, 500, 600), 500, 600], ["d.svs", bounds(300, 40, 500, 600), 1000, 800],
        ["e.bif", bounds(0, 200, 1000, 600), 1000, 600], ["f.mrxs", damaged, 1000, 800]]
def entries = images.collect { name, said, width, height ->
    def server = make("Server", [properties: said, width: width, height: height])
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
