import NIOCore

/// The descriptions that `GET` routes answer with.
enum Metadata {
    static let serverName = "weir-reference-worker"
    static let serverVersion = "1"

    /// "Server Metadata" of the protocol.
    static func server() -> ByteBuffer {
        var json = JSONWriter()
        json.raw("{\"name\":")
        json.string(serverName)
        json.raw(",\"version\":")
        json.string(serverVersion)
        json.raw(",\"extensions\":[]}")
        return json.buffer
    }

    static func health(_ models: LoadedModels) -> ByteBuffer {
        var json = JSONWriter()
        json.raw("{\"status\":\"healthy\",\"models\":")
        json.list(models.inventory) { json, model in
            json.raw("{\"name\":")
            json.string(model.name)
            json.raw(",\"version\":")
            json.string(model.version)
            json.raw("}")
        }
        json.raw("}")
        return json.buffer
    }

    static func ready(name: String) -> ByteBuffer {
        var json = JSONWriter()
        json.raw("{\"name\":")
        json.string(name)
        json.raw(",\"ready\":true}")
        return json.buffer
    }

    /// "Model Metadata" of the protocol. Names of features and classes stand in `parameters`, whose values have to be
    /// scalars: joined by commas.
    static func model(_ model: TabularModel, versions: [String]) -> ByteBuffer {
        var json = JSONWriter(capacity: 512)
        writeHead(&json, name: model.name, versions: versions, featureCount: model.features.count)
        let predictionType = model.kind == .linear ? "FP64" : "BYTES"
        json.raw(",\"outputs\":[{\"name\":\"prediction\",\"datatype\":")
        json.string(predictionType)
        json.raw(",\"shape\":[-1]}")
        if !model.classes.isEmpty {
            json.raw(",{\"name\":\"probabilities\",\"datatype\":\"FP64\",\"shape\":[-1,")
            json.integer(model.classes.count)
            json.raw("]}")
        }
        json.raw("],\"parameters\":{\"kind\":")
        json.string(model.kind.rawValue)
        json.raw(",\"features\":")
        json.string(model.features.joined(separator: ","))
        if !model.classes.isEmpty {
            json.raw(",\"classes\":")
            json.string(model.classes.joined(separator: ","))
        }
        json.raw("}}")
        return json.buffer
    }

    static func fault(_ fault: FaultModel) -> ByteBuffer {
        var json = JSONWriter(capacity: 512)
        writeHead(&json, name: fault.rawValue, versions: [FaultModel.version], featureCount: -1)
        json.raw(",\"outputs\":[{\"name\":\"prediction\",\"datatype\":\"BYTES\",\"shape\":[-1]}")
        json.raw(
            ",{\"name\":\"probabilities\",\"datatype\":\"FP64\",\"shape\":[-1,1]}],\"parameters\":{\"kind\":\"fault\"}}"
        )
        return json.buffer
    }

    private static func writeHead(_ json: inout JSONWriter, name: String, versions: [String], featureCount: Int) {
        json.raw("{\"name\":")
        json.string(name)
        json.raw(",\"versions\":")
        json.list(versions) { $0.string($1) }
        json.raw(",\"platform\":")
        json.string(serverName)
        json.raw(",\"inputs\":[{\"name\":\"input0\",\"datatype\":\"FP64\",\"shape\":[-1,")
        json.integer(featureCount)
        json.raw("]}]")
    }
}
