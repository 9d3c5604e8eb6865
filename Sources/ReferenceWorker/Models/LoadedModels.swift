import Foundation

/// The models that a worker serves. They are read once, before it listens, and never change after.
public struct LoadedModels: Sendable {
    /// Versions of each model, the latest first.
    private let versions: [String: [TabularModel]]

    /// The iris model, which is part of the executable. `docs/iris.md` says where it comes from and what it answers.
    public static func builtIn() throws(ModelFileError) -> LoadedModels {
        let source = "built-in"
        return try LoadedModels([(source, try ModelFile.model(in: PackageResources.iris_json, file: source))])
    }

    /// Reads model files.
    /// - Parameter paths: files, and folders whose `*.json` files are read. The built-in model where there are none.
    /// - Throws: `ModelFileError` for the first file that cannot be served. Nothing is skipped: a worker that silently
    ///   serves fewer models than it was given would be found out by a customer.
    public static func load(paths: [String]) throws(ModelFileError) -> LoadedModels {
        guard !paths.isEmpty else { return try builtIn() }
        var models: [(file: String, model: TabularModel)] = []
        for path in paths {
            for file in try files(at: path) {
                models.append((file, try ModelFile.model(in: try contents(of: file), file: file)))
            }
        }
        return try LoadedModels(models)
    }

    init(_ models: [(file: String, model: TabularModel)]) throws(ModelFileError) {
        var versions: [String: [TabularModel]] = [:]
        var origins: [[String]: String] = [:]
        for (file, model) in models {
            if let other = origins.updateValue(file, forKey: [model.name, model.version]) {
                throw ModelFileError(
                    file: file, code: .duplicateModel,
                    detail: "model \(model.name) version \(model.version) is already given by \(other)")
            }
            versions[model.name, default: []].append(model)
        }
        self.versions = versions.mapValues { models in
            models.sorted { ModelVersion(text: $0.version) > ModelVersion(text: $1.version) }
        }
    }

    /// Every model and version, for a start-up message. Sorted by name, the latest version first.
    public var inventory: [(name: String, version: String)] {
        versions.keys.sorted().flatMap { name in (versions[name] ?? []).map { (name, $0.version) } }
    }

    func versions(of name: String) -> [TabularModel] {
        versions[name] ?? []
    }

    /// - Parameter version: the latest where it is `nil`.
    func model(named name: String, version: String?) -> TabularModel? {
        guard let models = versions[name] else { return nil }
        guard let version else { return models.first }
        return models.first { $0.version == version }
    }

    // MARK: Files

    /// A file of coefficients beyond this size is a mistake in the path.
    static let maximumFileBytes = 16 * 1024 * 1024

    private static func files(at path: String) throws(ModelFileError) -> [String] {
        var isFolder: ObjCBool = false
        guard FileManager.default.fileExists(atPath: path, isDirectory: &isFolder) else {
            throw ModelFileError(file: path, code: .unreadable, detail: "there is no such file or folder")
        }
        guard isFolder.boolValue else { return [path] }
        let names: [String]
        do {
            names = try FileManager.default.contentsOfDirectory(atPath: path)
        } catch {
            throw ModelFileError(file: path, code: .unreadable, detail: "the folder cannot be listed")
        }
        let files = names.filter { $0.hasSuffix(".json") && !$0.hasPrefix(".") }.sorted()
        guard !files.isEmpty else {
            throw ModelFileError(file: path, code: .noModels, detail: "the folder has no *.json files")
        }
        return files.map { path.hasSuffix("/") ? path + $0 : "\(path)/\($0)" }
    }

    private static func contents(of file: String) throws(ModelFileError) -> [UInt8] {
        let unreadable = ModelFileError(file: file, code: .unreadable, detail: "the file cannot be read")
        // A pipe or a device would block for ever or never end.
        guard let attributes = try? FileManager.default.attributesOfItem(atPath: resolved(file)),
            attributes[.type] as? FileAttributeType == .typeRegular,
            let size = attributes[.size] as? NSNumber
        else { throw unreadable }
        guard size.intValue <= maximumFileBytes else {
            throw ModelFileError(
                file: file, code: .unreadable, detail: "the file is larger than \(maximumFileBytes) bytes")
        }
        guard let data = FileManager.default.contents(atPath: file) else { throw unreadable }
        return [UInt8](data)
    }

    /// Mounted configuration is often a symbolic link, and `attributesOfItem` does not follow it.
    private static func resolved(_ file: String) -> String {
        URL(fileURLWithPath: file).resolvingSymlinksInPath().path
    }
}
