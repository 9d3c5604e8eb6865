import Foundation
import Testing

@testable import ReferenceWorker

@Suite("Model files")
struct ModelFileTests {
    private static let good = """
        {"name":"m","version":"1","kind":"logistic","features":["a","b"],"classes":["x","y","z"],
        "coefficients":[[1,2],[3,4],[5,6]],"intercepts":[0,0,0]}
        """

    /// A change of the good file, and what has to be said about it.
    struct Broken: Sendable, CustomTestStringConvertible {
        let from: String
        let to: String
        let code: ModelFileError.Code
        let complaint: String
        var testDescription: String { "\(from) -> \(to)" }

        init(_ from: String, _ to: String, _ code: ModelFileError.Code, _ complaint: String) {
            self.from = from
            self.to = to
            self.code = code
            self.complaint = complaint
        }
    }

    static let broken: [Broken] = [
        Broken(good, "", .notJSON, "ends too early"),
        Broken(good, "[]", .invalidValue, "expected an object"),
        Broken("]}", "]", .notJSON, "ends too early"),
        Broken("]}", "]} {}", .notJSON, "after the end"),
        Broken("]}", #"],"deep":\#(String(repeating: "[", count: 40))"#, .notJSON, "deeper than 32"),
        Broken(#""name":"m","#, "", .missingKey, "missing key \"name\""),
        Broken(#""version":"1","#, "", .missingKey, "missing key \"version\""),
        Broken(#""kind":"logistic","#, "", .missingKey, "missing key \"kind\""),
        Broken(#""features":["a","b"],"#, "", .missingKey, "missing key \"features\""),
        Broken(#""classes":["x","y","z"],"#, "", .missingKey, "missing key \"classes\""),
        Broken(#""coefficients":[[1,2],[3,4],[5,6]],"#, "", .missingKey, "missing key \"coefficients\""),
        Broken(#","intercepts":[0,0,0]"#, "", .missingKey, "missing key \"intercepts\""),
        Broken(#","intercepts""#, #""intercepts""#, .notJSON, "expected a comma"),
        Broken(#""name":"m""#, #""name":"M m""#, .invalidValue, "\"name\""),
        Broken(#""name":"m""#, #""name":"fault-m""#, .invalidValue, "reserved"),
        Broken(#""name":"m""#, #""name":7"#, .invalidValue, "\"name\": expected a string"),
        Broken(#""name":"m""#, #""name":"m","name":"n""#, .invalidValue, "the key stands twice"),
        Broken(#""version":"1""#, #""version":"../1""#, .invalidValue, "\"version\""),
        Broken(#""version":"1""#, #""version":"""#, .invalidValue, "\"version\""),
        Broken("logistic", "forest", .invalidValue, "expected logistic or linear"),
        Broken("logistic", "linear", .dimensionMismatch, "a linear model has none"),
        Broken(#"["a","b"]"#, "[]", .dimensionMismatch, "at least one feature"),
        Broken(#"["a","b"]"#, #"["a","a"]"#, .invalidValue, "\"features\": a name stands twice"),
        Broken(#"["a","b"]"#, #"["a"]"#, .dimensionMismatch, "row 0 has 2 numbers, and \"features\" has 1"),
        Broken(#"["x","y","z"]"#, #"["x"]"#, .dimensionMismatch, "at least two"),
        Broken(#"["x","y","z"]"#, #"["x","y"]"#, .dimensionMismatch, "expected 1 or 2 rows, found 3"),
        Broken(#"["x","y","z"]"#, #"["x","y","z","x"]"#, .invalidValue, "\"classes\": a name stands twice"),
        Broken("[3,4],", "", .dimensionMismatch, "expected 3 rows, one per class, found 2"),
        Broken("[3,4]", "[3,4,5]", .dimensionMismatch, "row 1 has 3 numbers"),
        Broken("[0,0,0]", "[0,0]", .dimensionMismatch, "\"intercepts\": expected 3"),
        Broken("[3,4]", "[3,NaN]", .notFinite, "\"coefficients\": NaN"),
        Broken("[3,4]", "[3,-Infinity]", .notFinite, "Infinity"),
        Broken("[3,4]", "[3,1e999]", .notFinite, "beyond the range"),
        Broken("[3,4]", #"[3,"4"]"#, .invalidValue, "\"coefficients\": expected a number"),
        Broken("[0,0,0]", "[0,null,0]", .invalidValue, "\"intercepts\": expected a number"),
    ]

    @Test("a broken file is refused with its name and what is wrong", arguments: broken)
    func brokenFile(_ broken: Broken) throws {
        let text = Self.good.replacingOccurrences(of: broken.from, with: broken.to)
        try #require(text != Self.good)
        let error = try #require(throws: ModelFileError.self) {
            try ModelFile.model(in: Array(text.utf8), file: "models/m.json")
        }
        #expect(error.code == broken.code)
        #expect(error.file == "models/m.json")
        #expect(error.description.hasPrefix("model file models/m.json: "))
        #expect(error.detail.contains(broken.complaint), "\(error.detail)")
    }

    @Test("the good file is read whole, with remarks that are not ours")
    func goodFile() throws {
        let text = Self.good.replacingOccurrences(of: #""name""#, with: #""remark":{"by":["me"]},"name""#)
        let model = try ModelFile.model(in: Array(text.utf8), file: "m.json")
        #expect(
            model
                == TabularModel(
                    name: "m", version: "1", kind: .logistic, features: ["a", "b"], classes: ["x", "y", "z"],
                    coefficients: [1, 2, 3, 4, 5, 6], intercepts: [0, 0, 0]))
    }

    @Test("files and folders are loaded together; other files are not models")
    func load() async throws {
        try await withTemporaryFolder { folder in
            func write(_ name: String, _ version: String) throws {
                let text = Self.good.replacingOccurrences(of: #""version":"1""#, with: #""version":"\#(version)""#)
                try Data(text.utf8).write(to: folder.appendingPathComponent(name))
            }
            try FileManager.default.createDirectory(
                at: folder.appendingPathComponent("more"), withIntermediateDirectories: false)
            try write("m1.json", "1")
            try write("more/m2.json", "2")
            try write("more/m3.json", "3")
            try write("more/notes.txt", "3")
            let models = try LoadedModels.load(paths: [
                folder.appendingPathComponent("m1.json").path, folder.appendingPathComponent("more").path,
            ])
            #expect(models.inventory.map(\.version) == ["3", "2", "1"])
            #expect(models.inventory.allSatisfy { $0.name == "m" })
        }
    }

    @Test("no path at all loads the built-in model")
    func builtIn() throws {
        for models in [try LoadedModels.builtIn(), try LoadedModels.load(paths: [])] {
            #expect(models.inventory.map(\.name) == ["iris"])
            #expect(models.inventory.map(\.version) == ["1"])
        }
    }

    @Test("a path that leads to no model is refused with the path")
    func unreadable() async throws {
        try await withTemporaryFolder { folder in
            func code(_ path: String) throws -> ModelFileError.Code {
                let error = try #require(throws: ModelFileError.self) { try LoadedModels.load(paths: [path]) }
                #expect(error.file == path)
                return error.code
            }
            #expect(try code(folder.appendingPathComponent("absent.json").path) == .unreadable)
            #expect(try code(folder.path) == .noModels)
            #expect(try code("/dev/null") == .unreadable)
            let large = folder.appendingPathComponent("large.json")
            try Data().write(to: large)
            #expect(truncate(large.path, off_t(LoadedModels.maximumFileBytes + 1)) == 0)
            #expect(try code(large.path) == .unreadable)
        }
    }

    @Test("the same name and version twice is refused with both files")
    func duplicates() async throws {
        try await withTemporaryFolder { folder in
            let files = ["a.json", "b.json"].map { folder.appendingPathComponent($0) }
            for file in files { try Data(Self.good.utf8).write(to: file) }
            let error = try #require(throws: ModelFileError.self) { try LoadedModels.load(paths: [folder.path]) }
            #expect(error.code == .duplicateModel)
            #expect(error.file == files[1].path)
            #expect(error.detail.contains(files[0].path))
        }
    }

    @Test("versions are ordered by the value of their parts")
    func versionOrder() {
        let ordered = [
            "0.9", "1.0.0-alpha", "1.0.0-alpha.1", "1.0.0-alpha.beta", "1.0.0-beta.2", "1.0.0-beta.11", "1.0.0-rc.1",
            "1.0.0", "1.9", "1.10", "2", "2024-01-31", "2024",
        ]
        #expect(ordered.shuffled().sorted { ModelVersion(text: $0) < ModelVersion(text: $1) } == ordered)
        #expect(!(ModelVersion(text: "1") < ModelVersion(text: "1")))
    }
}
