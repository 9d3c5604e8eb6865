/// The body of `POST /predict`: `{"model", "version"?, "features": [...]}` for one row, or `"inputs": [[...], ...]` for
/// several.
///
/// Read straight into an array of doubles; this is what a benchmark calls a hundred thousand times. Members that are
/// not known are skipped.
struct PredictRequest {
    let model: String
    let version: String?
    /// All rows' values, one row after the other.
    let values: [Double]
    let rows: Int
    /// Whether the caller sent `inputs`, and so is answered with lists.
    let isBatch: Bool
    /// Values per row, that of the first row.
    let width: Int
    /// The first row whose length is not that of the first one.
    let irregularRow: (position: Int, count: Int)?

    init(_ bytes: [UInt8]) throws(JSONError) {
        var reader = JSONReader(bytes)
        var model: String?
        var version: String?
        var hasVersion = false
        var rows: Rows?
        try reader.enterObject()
        while let key = try reader.nextKey() {
            switch key {
            case "model":
                guard model == nil else { throw reader.unexpected("the key \"model\" stands twice") }
                model = try Self.string(&reader, key)
            case "version":
                guard !hasVersion else { throw reader.unexpected("the key \"version\" stands twice") }
                hasVersion = true
                if try !reader.skipNull() { version = try Self.string(&reader, key) }
            case "features", "inputs":
                guard rows == nil else { throw reader.unexpected("give \"features\" or \"inputs\", once") }
                rows = key == "features" ? try Rows(oneRow: &reader) : try Rows(batch: &reader)
            default: try reader.skipValue()
            }
        }
        try reader.finish()
        guard let model else { throw JSONError(kind: .missing, message: "missing key \"model\"", offset: nil) }
        guard let rows else {
            throw JSONError(kind: .missing, message: "missing key \"features\" or \"inputs\"", offset: nil)
        }
        self.model = model
        self.version = version
        values = rows.values
        self.rows = rows.count
        isBatch = rows.isBatch
        width = rows.width
        irregularRow = rows.irregular
    }

    private static func string(_ reader: inout JSONReader, _ key: String) throws(JSONError) -> String {
        guard reader.peek() == UInt8(ascii: "\"") else { throw reader.unexpected("\"\(key)\" has to be a string") }
        return try reader.readString()
    }
}

/// The numbers of a predict request while they are read.
private struct Rows {
    var values: [Double] = []
    var count = 0
    var width = 0
    var irregular: (position: Int, count: Int)?
    let isBatch: Bool

    init(oneRow reader: inout JSONReader) throws(JSONError) {
        isBatch = false
        values.reserveCapacity(8)
        guard reader.peek() == UInt8(ascii: "[") else {
            throw reader.unexpected("\"features\" has to be a list of numbers")
        }
        try readRow(&reader)
    }

    init(batch reader: inout JSONReader) throws(JSONError) {
        isBatch = true
        guard reader.peek() == UInt8(ascii: "[") else { throw reader.unexpected("\"inputs\" has to be a list of rows") }
        try reader.enterArray()
        while try reader.nextElement() {
            guard reader.peek() == UInt8(ascii: "[") else {
                throw reader.unexpected("inputs[\(count)] has to be a list of numbers")
            }
            try readRow(&reader)
        }
        guard count > 0 else { throw JSONError(kind: .unexpected, message: "\"inputs\" has no rows", offset: nil) }
    }

    private mutating func readRow(_ reader: inout JSONReader) throws(JSONError) {
        let start = values.count
        try reader.enterArray()
        while try reader.nextElement() {
            do throws(JSONError) {
                values.append(try reader.readDouble())
            } catch {
                let row = isBatch ? "inputs[\(count)]" : "features"
                throw JSONError(
                    kind: error.kind, message: "\(row)[\(values.count - start)]: \(error.message)", offset: error.offset
                )
            }
        }
        let length = values.count - start
        if count == 0 {
            width = length
        } else if length != width, irregular == nil {
            irregular = (count, length)
        }
        count += 1
    }
}
