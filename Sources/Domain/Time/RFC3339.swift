extension Timestamp: CustomStringConvertible {
    /// RFC 3339 in UTC with microseconds, `2026-03-01T12:00:00.000000Z`; whole seconds are written without a fraction.
    public var description: String {
        let seconds = floorDivision(microsecondsSince1970, 1_000_000)
        // Not by subtracting the seconds: near the lower end of the range their microseconds do not fit.
        let remainder = microsecondsSince1970 % 1_000_000
        let fraction = remainder < 0 ? remainder + 1_000_000 : remainder
        let days = floorDivision(seconds, 86_400)
        let date = CivilDate(daysSince1970: days)
        let secondOfDay = Int(seconds - days * 86_400)
        var text = padded(date.year, 4) + "-" + padded(date.month, 2) + "-" + padded(date.day, 2)
        text +=
            "T" + padded(secondOfDay / 3_600, 2) + ":" + padded(secondOfDay / 60 % 60, 2) + ":"
            + padded(secondOfDay % 60, 2)
        if fraction != 0 { text += "." + padded(Int(fraction), 6) }
        return text + "Z"
    }

    /// Reads RFC 3339 with a mandatory offset (`Z` or `±hh:mm`) and at most six digits of fraction.
    ///
    /// Refused on purpose: a missing offset (whose midnight would it be?), `24:00`, a leap second, a day that the month does not have.
    public init?(rfc3339 text: some StringProtocol) {
        var reader = DigitReader(Array(text.utf8))
        guard let year = reader.number(digits: 4), reader.skip("-"), let month = reader.number(digits: 2),
            reader.skip("-"),
            let day = reader.number(digits: 2), reader.skip("T") || reader.skip("t"),
            let hour = reader.number(digits: 2), reader.skip(":"), let minute = reader.number(digits: 2),
            reader.skip(":"),
            let second = reader.number(digits: 2), (1...12).contains(month), hour < 24, minute < 60, second < 60
        else { return nil }
        let days = CivilDate(year: year, month: month, day: day).daysSince1970
        guard day >= 1, CivilDate(daysSince1970: days) == CivilDate(year: year, month: month, day: day) else {
            return nil
        }
        guard let fraction = reader.fractionMicroseconds(), let offset = reader.offsetSeconds(), reader.isAtEnd else {
            return nil
        }
        let seconds = days * 86_400 + Int64(hour * 3_600 + minute * 60 + second) - Int64(offset)
        self.init(microsecondsSince1970: seconds * 1_000_000 + Int64(fraction))
    }
}

extension CivilDate: CustomStringConvertible {
    /// ISO 8601, `2026-03-01`.
    public var description: String { padded(year, 4) + "-" + padded(month, 2) + "-" + padded(day, 2) }

    /// Reads `2026-03-01`; a day that the month does not have is `nil`.
    public init?(iso8601 text: some StringProtocol) {
        var reader = DigitReader(Array(text.utf8))
        guard let year = reader.number(digits: 4), reader.skip("-"), let month = reader.number(digits: 2),
            reader.skip("-"),
            let day = reader.number(digits: 2), reader.isAtEnd
        else { return nil }
        let date = CivilDate(year: year, month: month, day: day)
        guard (1...12).contains(month), day >= 1, CivilDate(daysSince1970: date.daysSince1970) == date else {
            return nil
        }
        self = date
    }
}

private func padded(_ value: Int, _ width: Int) -> String {
    let digits = String(value)
    return String(repeating: "0", count: max(0, width - digits.count)) + digits
}

private struct DigitReader {
    private let bytes: [UInt8]
    private var position = 0

    init(_ bytes: [UInt8]) { self.bytes = bytes }

    var isAtEnd: Bool { position == bytes.count }

    mutating func number(digits: Int) -> Int? {
        guard position + digits <= bytes.count else { return nil }
        var value = 0
        for byte in bytes[position..<position + digits] {
            guard (0x30...0x39).contains(byte) else { return nil }
            value = value * 10 + Int(byte - 0x30)
        }
        position += digits
        return value
    }

    mutating func skip(_ character: Unicode.Scalar) -> Bool {
        guard position < bytes.count, UInt32(bytes[position]) == character.value else { return false }
        position += 1
        return true
    }

    mutating func fractionMicroseconds() -> Int? {
        guard skip(".") else { return 0 }
        var value = 0
        var digits = 0
        while let digit = number(digits: 1) {
            digits += 1
            guard digits <= 6 else { return nil }
            value = value * 10 + digit
        }
        guard digits > 0 else { return nil }
        for _ in digits..<6 { value *= 10 }
        return value
    }

    mutating func offsetSeconds() -> Int? {
        if skip("Z") || skip("z") { return 0 }
        let sign = skip("+") ? 1 : skip("-") ? -1 : 0
        guard sign != 0, let hours = number(digits: 2), skip(":"), let minutes = number(digits: 2), hours < 24,
            minutes < 60
        else {
            return nil
        }
        return sign * (hours * 3_600 + minutes * 60)
    }
}
