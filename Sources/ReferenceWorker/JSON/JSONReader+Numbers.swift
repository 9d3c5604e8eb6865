/// A number as it is written: what the digits say, before any type is chosen.
struct JSONNumber {
    /// The bytes of the literal.
    let range: Range<Int>
    let isNegative: Bool
    /// The digits without the point, while they fit; `nil` beyond that.
    let digits: UInt64?
    /// What `digits` has to be multiplied by, as a power of ten.
    let exponent: Int
    /// Neither a fraction nor an exponent is written.
    let isInteger: Bool
}

extension JSONReader {
    /// - Throws: `JSONError` of kind `notFinite` for `NaN`, `Infinity` and what a double cannot hold.
    mutating func readDouble() throws(JSONError) -> Double {
        let number = try scanNumber()
        // Digits below 2^53 and powers of ten up to 10^22 are exact in a double, so one multiplication or division
        // rounds once and gives the nearest double (W. D. Clinger, "How to Read Floating Point Numbers Accurately",
        // 1990). All else goes the slow, exact way.
        if let digits = number.digits, digits <= 1 << 53, number.exponent.magnitude < Self.powersOfTen.count {
            let power = Self.powersOfTen[Int(number.exponent.magnitude)]
            let magnitude = number.exponent < 0 ? Double(digits) / power : Double(digits) * power
            return number.isNegative ? -magnitude : magnitude
        }
        let literal = String(decoding: bytes[number.range], as: UTF8.self)
        guard let value = Double(literal), value.isFinite else {
            throw JSONError(
                kind: .notFinite, message: "a number is beyond the range of a double", offset: number.range.lowerBound)
        }
        return value
    }

    /// An integer of up to 64 bits, with its sign apart: `Int64.min` and `UInt64.max` both have a place.
    mutating func readInteger() throws(JSONError) -> (isNegative: Bool, magnitude: UInt64) {
        let number = try scanNumber()
        guard number.isInteger else {
            throw JSONError(kind: .unexpected, message: "expected an integer", offset: number.range.lowerBound)
        }
        guard let magnitude = number.digits else {
            throw JSONError(
                kind: .unexpected, message: "an integer has more than 64 bits", offset: number.range.lowerBound)
        }
        return (number.isNegative, magnitude)
    }

    /// Steps over a number and checks its grammar (RFC 8259, section 6).
    mutating func scanNumber() throws(JSONError) -> JSONNumber {
        skipWhitespace()
        let start = offset
        let isNegative = current == UInt8(ascii: "-")
        if isNegative { offset += 1 }
        guard let first = digit else { throw notANumber(from: start) }
        var digits: UInt64? = 0
        if first == 0 {
            offset += 1
            guard digit == nil else { throw syntax("a number starts with a zero") }
        } else {
            scanDigits(into: &digits)
        }
        var exponent = 0
        var isInteger = true
        if current == UInt8(ascii: ".") {
            isInteger = false
            offset += 1
            guard digit != nil else { throw syntax("expected a digit after the point") }
            let fractionStart = offset
            scanDigits(into: &digits)
            exponent = fractionStart - offset
        }
        if current == UInt8(ascii: "e") || current == UInt8(ascii: "E") {
            isInteger = false
            exponent += try scanExponent()
        }
        return JSONNumber(
            range: start..<offset, isNegative: isNegative, digits: digits, exponent: exponent, isInteger: isInteger)
    }

    private static let powersOfTen: [Double] = [
        1, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11,
        1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22,
    ]

    private var digit: UInt8? {
        guard let byte = current, (0x30...0x39).contains(byte) else { return nil }
        return byte - 0x30
    }

    private mutating func scanDigits(into digits: inout UInt64?) {
        while let next = digit {
            offset += 1
            guard let sum = digits else { continue }
            let (product, overflowsTimes) = sum.multipliedReportingOverflow(by: 10)
            let (total, overflowsPlus) = product.addingReportingOverflow(UInt64(next))
            digits = overflowsTimes || overflowsPlus ? nil : total
        }
    }

    /// The exponent, clamped: what is beyond a million is beyond any double, and the slow way reads the literal itself.
    private mutating func scanExponent() throws(JSONError) -> Int {
        offset += 1
        let isNegative = current == UInt8(ascii: "-")
        if isNegative || current == UInt8(ascii: "+") { offset += 1 }
        guard digit != nil else { throw syntax("expected a digit in the exponent") }
        var value = 0
        while let next = digit {
            offset += 1
            value = min(value * 10 + Int(next), 1_000_000)
        }
        return isNegative ? -value : value
    }

    private func notANumber(from start: Int) -> JSONError {
        switch current {
        case nil: syntax("")
        case UInt8(ascii: "N"), UInt8(ascii: "I"):
            JSONError(kind: .notFinite, message: "NaN and Infinity are not JSON", offset: start)
        case UInt8(ascii: "\""), UInt8(ascii: "{"), UInt8(ascii: "["), UInt8(ascii: "t"), UInt8(ascii: "f"),
            UInt8(ascii: "n"):
            JSONError(kind: .unexpected, message: "expected a number", offset: start)
        default: syntax("expected a value")
        }
    }
}
