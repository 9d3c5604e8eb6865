import Domain

/// The text of a model file, read and checked.
///
/// ```
/// {"name": "iris", "version": "1", "kind": "logistic", "features": ["a", "b"], "classes": ["x", "y", "z"],
///  "coefficients": [[0.1, 0.2], [0.3, 0.4], [0.5, 0.6]], "intercepts": [0.0, 0.1, 0.2]}
/// ```
///
/// A logistic model has one row of coefficients and one intercept per class, or a single row and two classes. A linear
/// model has a single row and no classes. Members that are not listed here are ignored, so that a file can carry
/// remarks.
struct ModelFile {
    private var name: String?
    private var version: String?
    private var kind: String?
    private var features: [String]?
    private var classes: [String]?
    private var coefficients: [[Double]]?
    private var intercepts: [Double]?
    private let file: String

    /// - Parameter file: how errors name the file.
    static func model(in bytes: [UInt8], file: String) throws(ModelFileError) -> TabularModel {
        var contents = ModelFile(file: file)
        var reader = JSONReader(bytes)
        var member: String?
        do throws(JSONError) {
            try contents.read(&reader, member: &member)
        } catch {
            throw contents.error(for: error, member: member)
        }
        return try contents.checked()
    }

    private init(file: String) {
        self.file = file
    }

    // MARK: Reading

    private mutating func read(_ reader: inout JSONReader, member: inout String?) throws(JSONError) {
        var seen: Set<String> = []
        try reader.enterObject()
        while let key = try reader.nextKey() {
            guard seen.insert(key).inserted else { throw reader.unexpected("the key stands twice") }
            member = key
            switch key {
            case "name": name = try reader.readString()
            case "version": version = try reader.readString()
            case "kind": kind = try reader.readString()
            case "features": features = try reader.readStrings()
            case "classes": classes = try reader.readStrings()
            case "coefficients":
                var rows: [[Double]] = []
                try reader.enterArray()
                while try reader.nextElement() { rows.append(try reader.readDoubles()) }
                coefficients = rows
            case "intercepts": intercepts = try reader.readDoubles()
            default: try reader.skipValue()
            }
            member = nil
        }
        try reader.finish()
    }

    private func error(for failure: JSONError, member: String?) -> ModelFileError {
        let place = member.map { "\"\($0)\": " } ?? ""
        return switch failure.kind {
        case .syntax, .tooDeep: error(.notJSON, "not valid JSON: \(place)\(failure)")
        case .notFinite: error(.notFinite, "\(place)\(failure)")
        case .unexpected, .missing: error(.invalidValue, "\(place)\(failure)")
        }
    }

    private func error(_ code: ModelFileError.Code, _ detail: String) -> ModelFileError {
        ModelFileError(file: file, code: code, detail: detail)
    }

    // MARK: Checking

    private func checked() throws(ModelFileError) -> TabularModel {
        let name = try required(name, "name")
        guard ModelName.isValid(name.utf8) else {
            throw error(
                .invalidValue, "\"name\": a model's name has 1 to 128 of a-z, 0-9, '.', '_' and '-', and no '..'")
        }
        guard !name.hasPrefix(FaultModel.prefix) else {
            throw error(.invalidValue, "\"name\": names that start with \(FaultModel.prefix) are reserved")
        }
        let version = try required(version, "version")
        guard ModelVersion.isValid(version) else {
            throw error(
                .invalidValue, "\"version\": a version has 1 to 64 of A-Z, a-z, 0-9, '.', '_', '+' and '-', and no '..'"
            )
        }
        let kindText = try required(kind, "kind")
        guard let kind = TabularModel.Kind(rawValue: kindText) else {
            throw error(.invalidValue, "\"kind\": expected logistic or linear")
        }
        let features = try distinct(required(features, "features"), "features")
        guard !features.isEmpty else {
            throw error(.dimensionMismatch, "\"features\": a model has at least one feature")
        }
        let classes = try checkedClasses(for: kind)
        let coefficients = try required(coefficients, "coefficients")
        let intercepts = try required(intercepts, "intercepts")
        try checkDimensions(
            kind: kind, classes: classes.count, features: features.count, coefficients: coefficients,
            intercepts: intercepts.count)
        return TabularModel(
            name: name, version: version, kind: kind, features: features, classes: classes,
            coefficients: coefficients.flatMap(\.self), intercepts: intercepts)
    }

    private func checkedClasses(for kind: TabularModel.Kind) throws(ModelFileError) -> [String] {
        switch kind {
        case .linear:
            guard classes?.isEmpty ?? true else {
                throw error(.dimensionMismatch, "\"classes\": a linear model has none")
            }
            return []
        case .logistic:
            let classes = try distinct(required(classes, "classes"), "classes")
            guard classes.count >= 2 else {
                throw error(.dimensionMismatch, "\"classes\": a logistic model has at least two")
            }
            return classes
        }
    }

    private func checkDimensions(
        kind: TabularModel.Kind, classes: Int, features: Int, coefficients: [[Double]], intercepts: Int
    ) throws(ModelFileError) {
        let isExpected =
            switch kind {
            case .linear: coefficients.count == 1
            case .logistic: coefficients.count == classes || (coefficients.count == 1 && classes == 2)
            }
        guard isExpected else {
            let expected = kind == .linear ? "1 row" : classes == 2 ? "1 or 2 rows" : "\(classes) rows, one per class"
            throw error(.dimensionMismatch, "\"coefficients\": expected \(expected), found \(coefficients.count)")
        }
        for (row, numbers) in coefficients.enumerated() where numbers.count != features {
            throw error(
                .dimensionMismatch,
                "\"coefficients\": row \(row) has \(numbers.count) numbers, and \"features\" has \(features)")
        }
        guard intercepts == coefficients.count else {
            throw error(
                .dimensionMismatch,
                "\"intercepts\": expected \(coefficients.count), one per row of \"coefficients\", found \(intercepts)")
        }
    }

    private func required<Value>(_ value: Value?, _ key: String) throws(ModelFileError) -> Value {
        guard let value else { throw error(.missingKey, "missing key \"\(key)\"") }
        return value
    }

    private func distinct(_ names: [String], _ key: String) throws(ModelFileError) -> [String] {
        guard Set(names).count == names.count else { throw error(.invalidValue, "\"\(key)\": a name stands twice") }
        return names
    }
}

extension JSONReader {
    fileprivate mutating func readStrings() throws(JSONError) -> [String] {
        var strings: [String] = []
        try enterArray()
        while try nextElement() { strings.append(try readString()) }
        return strings
    }

    fileprivate mutating func readDoubles() throws(JSONError) -> [Double] {
        var numbers: [Double] = []
        try enterArray()
        while try nextElement() { numbers.append(try readDouble()) }
        return numbers
    }
}
