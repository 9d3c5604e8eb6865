internal import Domain
internal import PostgresDriver

/// The columns `delivery_…` of the registry, in the order in which every statement lists them: the four that are no numbers, then the
/// numbers as ``DeliverySettings/Number`` has them.
enum DeliveryColumns {
    static let types: [PostgresType] =
        [.text, .bool, .text, .text] + Array(repeating: .int8, count: DeliverySettings.Number.allCases.count)

    static func read(from row: inout PostgresRow) throws(PostgresError) -> DeliverySettings {
        var settings = DeliverySettings()
        settings.balancing = try row.optionalText().flatMap { Balancing(rawValue: $0) }
        settings.isSafeToRepeat = try row.optionalBool()
        settings.probePath = try row.optionalText()
        settings.streamLeave = try row.optionalText().flatMap { StreamLeave(rawValue: $0) }
        for number in DeliverySettings.Number.allCases { settings.numbers[number] = try row.optionalInt64() }
        return settings
    }

    static func bind(_ settings: DeliverySettings, to binds: inout PostgresBinds) {
        binds.append(settings.balancing?.rawValue)
        binds.append(settings.isSafeToRepeat)
        binds.append(settings.probePath)
        binds.append(settings.streamLeave?.rawValue)
        for number in DeliverySettings.Number.allCases { binds.append(settings.numbers[number]) }
    }
}
