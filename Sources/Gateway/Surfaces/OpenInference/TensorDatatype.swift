/// The datatypes of tensors in the Open Inference Protocol v2, section "Tensor Data Types".
enum TensorDatatype: String, CaseIterable, Sendable {
    case bool = "BOOL"
    case uint8 = "UINT8"
    case uint16 = "UINT16"
    case uint32 = "UINT32"
    case uint64 = "UINT64"
    case int8 = "INT8"
    case int16 = "INT16"
    case int32 = "INT32"
    case int64 = "INT64"
    case float16 = "FP16"
    case float32 = "FP32"
    case float64 = "FP64"
    case bytes = "BYTES"

    /// Bytes of one element in binary form; `nil` where elements differ in length.
    var byteWidth: Int? {
        switch self {
        case .bool, .uint8, .int8: 1
        case .uint16, .int16, .float16: 2
        case .uint32, .int32, .float32: 4
        case .uint64, .int64, .float64: 8
        case .bytes: nil
        }
    }

    /// Whether its elements are numbers: what a model of rows can be given.
    var isNumeric: Bool { self != .bool && self != .bytes }
}

/// What is wrong with a tensor, and where. Who sent it decides what that means.
struct TensorFault: Error, Equatable {
    /// A JSON Pointer.
    let location: String
    let message: String
}

/// The sizes of a tensor's dimensions, outermost first.
struct TensorShape: Equatable, Sendable {
    /// More than any framework's arrays have.
    static let dimensionLimit = 32

    let sizes: [Int]
    /// Elements: the product of the sizes, and 1 for a scalar, which has none.
    let elementCount: Int

    init(_ sizes: [Int], at location: String) throws(TensorFault) {
        guard sizes.count <= Self.dimensionLimit else {
            throw TensorFault(location: location, message: "has more than \(Self.dimensionLimit) dimensions")
        }
        var product = 1
        var overflows = false
        for size in sizes {
            guard size >= 0 else { throw TensorFault(location: location, message: "has a negative dimension") }
            // A zero must not hide that the others cannot be multiplied.
            let (next, overflow) = product.multipliedReportingOverflow(by: max(size, 1))
            overflows = overflows || overflow
            product = next
        }
        guard !overflows else {
            throw TensorFault(location: location, message: "says more elements than 64 bits can count")
        }
        self.sizes = sizes
        elementCount = sizes.contains(0) ? 0 : product
    }

    /// Reads a list of whole numbers.
    init(_ value: JSONTape.Value, of tape: JSONTape, at location: String) throws(TensorFault) {
        guard tape.kind(value) == .array else {
            throw TensorFault(location: location, message: "must be a list of whole numbers")
        }
        var sizes: [Int] = []
        for element in tape.elements(of: value) {
            guard let size = tape.int64(element).flatMap({ Int(exactly: $0) }) else {
                throw TensorFault(location: location, message: "must be a list of whole numbers of 64 bits")
            }
            sizes.append(size)
        }
        try self.init(sizes, at: location)
    }
}
