// What multimag.groovy uses of QuPath, as far as it uses it: objects are maps of GeoJSON features.
package qupath.lib

class Stand {
    static List objects(File file) { new groovy.json.JsonSlurper().parse(file).features.collect { new PathObject(it) } }
}

class PathObject {
    Map feature
    String name
    boolean locked
    PathObject(Map feature) { this.feature = feature; name = feature.properties.name }
    def getPathClass() { feature.properties.classification }
    PathObject at(x, y) {
        def copy = new groovy.json.JsonSlurper().parseText(groovy.json.JsonOutput.toJson(feature))
        copy.geometry.coordinates = copy.geometry.coordinates.collect { ring -> ring.collect { [it[0] + x, it[1] + y] } }
        new PathObject(copy)
    }
}

class Hierarchy {
    List all = []
    def getAnnotationObjects() { all }
    def addObjects(objects) { all.addAll(objects) }
    def removeObjects(objects, boolean children) { all.removeAll(objects) }
}

class Server {
    Map properties
    int width
    int height
    int getWidth() { width }
    int getHeight() { height }
    String dumpMetadata() { groovy.json.JsonOutput.toJson(properties) }
}

class ImageData {
    Hierarchy hierarchy = new Hierarchy()
    Server server
}

class Entry {
    String imageName
    ImageData data
    boolean saved
    def readImageData() { data }
    def saveImageData(data) { saved = true }
}

class Project {
    List imageList
}
