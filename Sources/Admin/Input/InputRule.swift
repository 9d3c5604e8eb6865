internal import Domain

/// What a value must be, in words for whoever sent another.
struct InputRule<Value> {
    /// Goes behind "must be".
    let expectation: String
    let fix: String
    let read: (JSONValue) -> Value?
}

extension InputRule where Value == String {
    /// Any text without control characters, which a log or a terminal would obey.
    static func text(length: ClosedRange<Int>) -> InputRule {
        InputRule(
            expectation: "a text of \(length.lowerBound) to \(length.upperBound) characters without control characters",
            fix: "Send a text of that length."
        ) { value in
            guard case .string(let text) = value, length.contains(text.unicodeScalars.count), !hasControlCharacter(text)
            else { return nil }
            return text
        }
    }

    static func hasControlCharacter(_ text: String) -> Bool {
        text.unicodeScalars.contains { $0.properties.generalCategory == .control }
    }

    static var name: InputRule { .text(length: 1...200) }

    static var timeZone: InputRule {
        InputRule(expectation: "an IANA time zone", fix: "Send a name such as Europe/Berlin.") { value in
            guard case .string(let text) = value, (1...64).contains(text.utf8.count),
                PeriodCalendar(timeZone: text) != nil
            else {
                return nil
            }
            return text
        }
    }

    static var tierCode: InputRule {
        InputRule(
            expectation: "a code of lower-case letters, digits and hyphens",
            fix: "Send a code such as standard, of at most 64 characters."
        ) { value in
            guard case .string(let text) = value, (1...64).contains(text.utf8.count),
                text.utf8.first != UInt8(ascii: "-"),
                text.utf8.allSatisfy({
                    (0x61...0x7A).contains($0) || (0x30...0x39).contains($0) || $0 == UInt8(ascii: "-")
                })
            else { return nil }
            return text
        }
    }

    static var modelName: InputRule {
        InputRule(
            expectation: "a model's name",
            fix: "Send lower-case letters, digits, dots, hyphens and underscores, at most 128 of them."
        ) { value in
            guard case .string(let text) = value, ModelName.isValid(text.utf8) else { return nil }
            return text
        }
    }

    /// As a request can name it, and a worker's path can hold it.
    static var modelVersion: InputRule {
        InputRule(
            expectation: "a model's version",
            fix: "Send letters, digits, dots, underscores, plus signs and hyphens, at most 64 of them, and not latest."
        ) { value in
            guard case .string(let text) = value, text.utf8.count <= 64, text != ModelVersionName.latest,
                ModelVersionName.isValid(text.utf8)
            else { return nil }
            return text
        }
    }

    /// Empty where a route does not say.
    static var modelVersionOrNone: InputRule {
        InputRule(expectation: "a model's version or empty", fix: modelVersion.fix) { value in
            if value == .string("") { return "" }
            return modelVersion.read(value)
        }
    }

    /// As an alias or a mirror can name it.
    static var modelVersionOrLatest: InputRule {
        InputRule(expectation: "a model's version or latest", fix: modelVersion.fix) { value in
            value == .string(ModelVersionName.latest) ? ModelVersionName.latest : modelVersion.read(value)
        }
    }

    static var modelNameOrAny: InputRule {
        InputRule(expectation: "a model's name or *", fix: "Send * for every model that has no price of its own.") {
            value in
            if value == .string(PriceSheet.anyModel) { return PriceSheet.anyModel }
            return modelName.read(value)
        }
    }

    static var currency: InputRule {
        InputRule(expectation: "an ISO 4217 code", fix: "Send three capital letters such as EUR.") { value in
            guard case .string(let text) = value, text.utf8.count == 3,
                text.utf8.allSatisfy({ (0x41...0x5A).contains($0) })
            else {
                return nil
            }
            return text
        }
    }
}

extension InputRule where Value == Int64 {
    static func integer(_ range: ClosedRange<Int64>) -> InputRule {
        InputRule(
            expectation: "a whole number from \(range.lowerBound) to \(range.upperBound)",
            fix: "Send it without a fraction or an exponent."
        ) { value in
            guard case .number(let text) = value, let number = Int64(text), range.contains(number) else { return nil }
            return number
        }
    }
}

extension InputRule where Value == QuotaThresholds {
    static var thresholds: InputRule {
        InputRule(
            expectation:
                "a list of at most \(QuotaThresholds.countLimit) ascending percentages from \(QuotaThresholds.range.lowerBound) to \(QuotaThresholds.range.upperBound)",
            fix: "Send a list such as [50, 80, 100]; an empty one raises no events."
        ) { value in
            guard case .array(let elements) = value, elements.count <= QuotaThresholds.countLimit else { return nil }
            var percents: [Int16] = []
            for element in elements {
                guard case .number(let text) = element, let percent = Int16(text) else { return nil }
                percents.append(percent)
            }
            return QuotaThresholds(percents)
        }
    }
}

extension InputRule where Value == WorkerAddress {
    static var workerAddress: InputRule {
        InputRule(
            expectation: "host:port or [v6]:port, perhaps behind http:// or https://, without a path",
            fix: "Send an address such as 127.0.0.1:9000."
        ) { value in
            guard case .string(let text) = value else { return nil }
            return WorkerAddress(text)
        }
    }
}

extension InputRule where Value == Bool {
    static var boolean: InputRule {
        InputRule(expectation: "true or false", fix: "Send it without quotation marks.") { value in
            guard case .bool(let truth) = value else { return nil }
            return truth
        }
    }
}

extension InputRule where Value == Stickiness {
    static var stickiness: InputRule {
        InputRule(
            expectation: "none, tenant, key, user, or the name of a field that requests have besides their own",
            fix: "Send a word such as key, or a field such as session_id."
        ) { value in
            guard case .string(let text) = value else { return nil }
            return Stickiness(text)
        }
    }
}

extension InputRule where Value == UnitPrice {
    static var unitPrice: InputRule {
        InputRule(
            expectation: "a decimal as text, with at most seven digits before and twelve after the point",
            fix: #"Send a string such as "0.000000150000", not a number."#
        ) { value in
            guard case .string(let text) = value else { return nil }
            return UnitPrice(decimal: text)
        }
    }
}

extension InputRule where Value == Timestamp {
    /// The years that RFC 3339 can write, from 1970.
    static var range: Range<Timestamp> {
        Timestamp(microsecondsSince1970: 0)..<Timestamp(microsecondsSince1970: 253_402_300_800_000_000)
    }

    static var instant: InputRule {
        InputRule(expectation: "a time with an offset, from 1970 to 9999", fix: "Send it as 2026-03-01T00:00:00Z.") {
            value in
            guard case .string(let text) = value, let instant = Timestamp(rfc3339: text), range.contains(instant) else {
                return nil
            }
            return instant
        }
    }
}

extension InputRule {
    /// One of the words of an enumeration.
    static func oneOf<Word>(_ words: [Word]) -> InputRule<Word> where Word: RawRepresentable<String> {
        let names = words.map(\.rawValue)
        return InputRule<Word>(expectation: "one of \(names.joined(separator: ", "))", fix: "Send one of these words.")
        { value in
            guard case .string(let text) = value, names.contains(text) else { return nil }
            return Word(rawValue: text)
        }
    }

    /// A list of different values.
    static func set<Element: Hashable>(
        of rule: InputRule<Element>, count: ClosedRange<Int>
    ) -> InputRule<Set<Element>> {
        InputRule<Set<Element>>(
            expectation:
                "a list of \(count.lowerBound) to \(count.upperBound) different values, each \(rule.expectation)",
            fix: rule.fix
        ) { value in
            guard case .array(let elements) = value, count.contains(elements.count) else { return nil }
            var set: Set<Element> = []
            for element in elements {
                guard let member = rule.read(element), set.insert(member).inserted else { return nil }
            }
            return set
        }
    }
}
