/// Why a JSON text could not be read, and where.
struct JSONError: Error, Equatable, CustomStringConvertible {
    enum Kind: Equatable {
        /// Not JSON, or not UTF-8.
        case syntax
        /// JSON, but not what is expected at this place.
        case unexpected
        /// `NaN`, `Infinity`, or a number beyond the range of a double.
        case notFinite
        /// Nested deeper than `JSONReader.maximumDepth`.
        case tooDeep
        /// A member that has to be there is not.
        case missing
    }

    let kind: Kind
    let message: String
    /// Offset in bytes; `nil` where the fault has no single place.
    let offset: Int?

    var description: String { offset.map { "\(message), at byte \($0)" } ?? message }
}
