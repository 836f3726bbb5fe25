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

// QuPath crops slides of some scanners (MIRAX) to their bounds; files of this project have the whole slide's pixels.
def origin = { server ->
    if (!server.metaClass.respondsTo(server, "dumpMetadata")) return [0, 0]
    def said = new JsonSlurper().parseText(server.dumpMetadata())
    def whole = said["openslide.level[0].width"]
    if (whole == null || said["openslide.bounds-x"] == null || server.getWidth() == whole as int) return [0, 0]
    [said["openslide.bounds-x"] as int, said["openslide.bounds-y"] as int]
}

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
        def objects = moved(PathIO.readObjects(file), -x, -y)
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
        println "${entry.getImageName()}: ${objects.size()} annotations to ${file}"
    } else {
        println "MODE must be \"import\" or \"export\", not \"${MODE}\"."
        return
    }
    done++
}
println "${done} of ${done + left.size()} images: ${MODE}ed"
left.each { println "left out: " + it }
