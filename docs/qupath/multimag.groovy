/*
 * QuPath (0.5 or newer): import segmented slides into a project, or export its annotations for training.
 *
 * Open a project, then Automate > Script editor, set the three lines below, and Run. In the first mode each image's
 * polygons come from RESULTS/<name of the slide>/prediction.geojson; an import before is replaced, annotations drawn by
 * hand stay. In the second mode each image's annotations with a class go to ANNOTATIONS/<name of the slide>.geojson.
 */
import groovy.json.JsonSlurper
import java.awt.geom.AffineTransform
import qupath.lib.io.PathIO
import qupath.lib.objects.PathObjectTools

def MODE = "import"                  // or "export"
def RESULTS = "segmented"            // output_dir of inference.yaml
def ANNOTATIONS = "annotations"      // folder to export to
def WITH_PREDICTIONS = false         // true: also export imported polygons, corrected or not

// How imported polygons are told from those drawn by hand.
def PREDICTED = "predicted"

// Arguments of a call from the command line (QuPath script --project P multimag.groovy --args import --args FOLDER).
if (binding.hasVariable("args") && args && args.length >= 2) {
    MODE = args[0]
    RESULTS = args[1]
    ANNOTATIONS = args[1]
}

// The slide's name as its results have it: without ending, of .ome.tif both parts, and without a series' number.
def slideName = { String image ->
    image.replaceAll(/ - Series \d+$/, "").replaceAll(/(?i)(\.ome\.tiff?|\.[^.]+)$/, "")
}

// QuPath crops slides of some scanners (MIRAX, SCN) to their bounds, unless they were added with --no-crop, and counts
// from the bounds' corner.
def origin = { server ->
    if (!server.metaClass.respondsTo(server, "dumpMetadata")) return [0, 0]
    def said = new JsonSlurper().parseText(server.dumpMetadata())
    def bounds = ["x", "y", "width", "height"].collect { said["openslide.bounds-" + it] }
    if (!bounds.every { it != null && it ==~ /\d+/ }) return [0, 0]
    def (x, y, width, height) = bounds.collect { it as int }
    server.getWidth() == width && server.getHeight() == height ? [x, y] : [0, 0]
}

// From where a file of this project says that it counts: from the slide's corner, if it does not say.
def fromBounds = { File file -> file.withReader("UTF-8") { reader ->
    def start = new char[400]
    def length = reader.read(start, 0, start.length)
    length > 0 && new String(start, 0, length) =~ /"multimag"\s*:\s*\{\s*"origin"\s*:\s*"bounds"/
} }

def moved = { objects, x, y ->
    if (x == 0 && y == 0) return objects
    objects.collect { PathObjectTools.transformObject(it, AffineTransform.getTranslateInstance(x, y), true) }
}

def project = getProject()
if (project == null) {
    println "Open a project first."
    return
}
def done = 0
def left = []
for (entry in project.getImageList()) {
    def name = slideName(entry.getImageName())
    def data = entry.readImageData()
    def hierarchy = data.getHierarchy()
    def (x, y) = origin(data.getServer())
    if (MODE == "import") {
        def file = new File(new File(RESULTS, name), "prediction.geojson")
        if (!file.exists()) {
            left << "${entry.getImageName()}: no ${file}"
            continue
        }
        hierarchy.removeObjects(hierarchy.getAnnotationObjects().findAll { it.getName() == PREDICTED }, true)
        def shift = fromBounds(file) ? [0, 0] : [-x, -y]
        def objects = moved(PathIO.readObjects(file), shift[0], shift[1])
        objects.each { it.setName(PREDICTED); it.setLocked(true) }
        hierarchy.addObjects(objects)
        entry.saveImageData(data)
        println "${entry.getImageName()}: ${objects.size()} polygons from ${file}"
    } else if (MODE == "export") {
        def objects = hierarchy.getAnnotationObjects().findAll {
            it.getPathClass() != null && (WITH_PREDICTIONS || it.getName() != PREDICTED)
        }
        if (objects.isEmpty()) {
            left << "${entry.getImageName()}: no annotation with a class"
            continue
        }
        def folder = new File(ANNOTATIONS)
        folder.mkdirs()
        def file = new File(folder, name + ".geojson")
        PathIO.exportObjectsAsGeoJSON(file, moved(objects, x, y), PathIO.GeoJsonExportOptions.FEATURE_COLLECTION,
                PathIO.GeoJsonExportOptions.EXCLUDE_MEASUREMENTS)
        // So that nobody takes it for a file of QuPath's menu, which counts from the bounds.
        def written = file.getText("UTF-8")
        file.write(written.replaceFirst(/^\s*\{/, '{"multimag": {"origin": "slide"}, '), "UTF-8")
        println "${entry.getImageName()}: ${objects.size()} annotations to ${file}"
    } else {
        println "MODE must be \"import\" or \"export\", not \"${MODE}\"."
        return
    }
    done++
}
println "${done} of ${done + left.size()} images: ${MODE}ed"
left.each { println "left out: " + it }
