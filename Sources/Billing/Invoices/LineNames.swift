internal import Domain

/// What lines are called.
struct LineNames {
    let terms: [TierVersionID: TierTerms]

    func line(_ rated: RatedLine) -> InvoiceLine {
        let kind: InvoiceLine.Kind =
            switch rated.kind {
            case .baseFee: .baseFee
            case .usage: .usage
            case .included: .included
            case .trial: .trial
            case .minimumCommitment: .minimumCommitment
            }
        return InvoiceLine(
            kind: kind, tierVersionID: rated.tierVersionID, model: rated.model, meter: rated.meter, band: rated.band,
            description: description(rated), start: rated.start, end: rated.end,
            quantityMillionths: rated.quantityMillionths, unitPrice: rated.unitPrice, amount: rated.amount)
    }

    private func description(_ rated: RatedLine) -> String {
        let terms = terms[rated.tierVersionID]
        let tier = terms.map { "\($0.tierCode) version \($0.version)" } ?? ""
        let what = what(rated.meter, rated.model)
        switch rated.kind {
        case .baseFee: return "Base fee of tier \(tier)"
        case .minimumCommitment: return "Up to the minimum of tier \(tier)"
        case .included: return "\(what), included in tier \(tier)"
        case .trial: return "\(what), in the trial of tier \(tier)"
        case .usage:
            if let meter = rated.meter, let model = rated.model,
                case .package(let size, _)? = terms?.rule(of: meter, model: model).price
            {
                return "\(what), in packages of \(size)"
            }
            return what + (rated.band.map { ", band \($0)" } ?? "")
        }
    }

    func what(_ meter: Meter?, _ model: String?) -> String {
        let meterName =
            switch meter {
            case .request: "Requests"
            case .inputToken: "Input tokens"
            case .cachedInputToken: "Cached input tokens"
            case .outputToken: "Output tokens"
            case nil: "fees"
            }
        guard let model else { return meterName }
        return model == PriceSheet.anyModel ? "\(meterName), all other models" : "\(meterName), \(model)"
    }
}
