/// A model file that cannot be served: which file, and what is wrong with it.
public struct ModelFileError: Error, Equatable, CustomStringConvertible {
    public enum Code: String, Sendable, CaseIterable {
        /// The file or folder cannot be read.
        case unreadable
        /// No model was found where one was expected.
        case noModels = "no_models"
        case notJSON = "not_json"
        case missingKey = "missing_key"
        /// A value is of the wrong type, or not one of the values allowed.
        case invalidValue = "invalid_value"
        /// Two parts of the file contradict each other in size.
        case dimensionMismatch = "dimension_mismatch"
        case notFinite = "not_finite"
        /// Two files give the same name and version.
        case duplicateModel = "duplicate_model"
    }

    /// The path as it was given, or `built-in`.
    public let file: String
    public let code: Code
    /// What is wrong, for a person.
    public let detail: String

    public var description: String { "model file \(file): \(detail)" }

    /// One of a handful of words, fit for the label of a metric.
    public var metricLabel: String { code.rawValue }
}
