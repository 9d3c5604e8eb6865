/// One step of a banded price.
public struct PriceBand: Hashable, Sendable {
    /// The last whole unit of the band, counted from the first unit of all; `nil` for the last band, which has no end.
    public let upTo: Int64?
    public let unitPrice: UnitPrice

    public init(upTo: Int64?, unitPrice: UnitPrice) {
        self.upTo = upTo
        self.unitPrice = unitPrice
    }
}

/// How the price of a meter follows from its quantity in a period.
public enum PriceModel: Hashable, Sendable {
    /// The same price for each unit.
    case flat(UnitPrice)
    /// Each unit at the price of the band that it falls in.
    case graduated([PriceBand])
    /// All units at the price of the band that the whole quantity falls in.
    case volume([PriceBand])
    /// The price of each begun package of `size` units.
    case package(size: Int64, price: UnitPrice)

    /// What the first unit costs, in whole picos; packages are divided and cut off. Included amounts go to the dearest first by this.
    public var leadingPrice: UnitPrice {
        switch self {
        case .flat(let price): price
        case .graduated(let bands), .volume(let bands): bands.first?.unitPrice ?? .free
        case .package(let size, let price): UnitPrice(picos: price.picos / max(1, size))
        }
    }

    /// Of the unit that ends at a place, in millionths of a unit from the first; of volume prices, of every unit where that is all there is.
    /// Of a package, the package's.
    func price(atMillionths place: Int128) -> UnitPrice {
        switch self {
        case .flat(let price), .package(_, let price): return price
        case .graduated(let bands), .volume(let bands):
            var (low, high) = (0, bands.count - 1)
            while low < high {
                let middle = (low + high) / 2
                if place <= Int128(bands[middle].upTo ?? .max) * 1_000_000 { high = middle } else { low = middle + 1 }
            }
            return bands.indices.contains(low) ? bands[low].unitPrice : .free
        }
    }

    /// The word for it.
    public enum Kind: String, Sendable, CaseIterable {
        case flat
        case graduated
        case volume
        case package
    }

    public var kind: Kind {
        switch self {
        case .flat: .flat
        case .graduated: .graduated
        case .volume: .volume
        case .package: .package
        }
    }

    /// Empty where there is one price.
    public var bands: [PriceBand] {
        switch self {
        case .graduated(let bands), .volume(let bands): bands
        case .flat, .package: []
        }
    }

    /// Of a unit or a package; `nil` where the bands have the prices.
    public var unitPrice: UnitPrice? {
        switch self {
        case .flat(let price), .package(_, let price): price
        case .graduated, .volume: nil
        }
    }

    public var packageSize: Int64? {
        if case .package(let size, _) = self { size } else { nil }
    }

    /// Whether the bands begin at the first unit, follow one another without a gap or an overlap, and end with one that has no end.
    public var isWellFormed: Bool {
        switch self {
        case .flat: return true
        case .package(let size, _): return size >= 1
        case .graduated(let bands), .volume(let bands):
            guard let last = bands.last, last.upTo == nil else { return false }
            var end: Int64 = 0
            for band in bands.dropLast() {
                guard let upTo = band.upTo, upTo > end else { return false }
                end = upTo
            }
            return true
        }
    }
}

/// The price of one meter for one model, or for all that have none of their own.
public struct PriceRule: Hashable, Sendable {
    public let meter: Meter
    /// ``PriceSheet/anyModel`` for all models without a rule of their own; their quantities are then priced together.
    public let model: String
    public let price: PriceModel

    public init(meter: Meter, model: String, price: PriceModel) {
        self.meter = meter
        self.model = model
        self.price = price
    }
}

/// As how many units one unit of a model counts, exact to a millionth.
public struct Multiplier: Hashable, Sendable, CustomStringConvertible {
    public let millionths: Int64

    public init(millionths: Int64) { self.millionths = millionths }

    public static let one = Multiplier(millionths: 1_000_000)

    /// Reads a plain decimal above zero with at most six places, at most 1,000. Signs, exponents and spaces are refused.
    public init?(decimal text: some StringProtocol) {
        // The same form as a price with six places less; what is left over must be zero.
        guard let price = UnitPrice(decimal: text), price.picos % 1_000_000 == 0 else { return nil }
        millionths = price.picos / 1_000_000
        guard 1...1_000_000_000 ~= millionths else { return nil }
    }

    /// A plain decimal with six places.
    public var description: String {
        let fraction = String(millionths % 1_000_000)
        return "\(millionths / 1_000_000)." + String(repeating: "0", count: 6 - fraction.utf8.count) + fraction
    }
}
