public import Domain

extension Refusal {
    /// The header fields that go with the refusal.
    public var fields: [(String, String)] {
        var fields: [(String, String)] = []
        if let completeByteCount { fields.append(("content-range", "bytes */\(completeByteCount)")) }
        if code.httpStatus == 401 { fields.append(("www-authenticate", "Bearer")) }
        // A rate limit lets the same request through a little later, unless it asks for more than there ever is.
        let isTransient = code == .rateLimited && retryAfterSeconds != nil
        if [401, 402, 403, 422, 429].contains(code.httpStatus), !isTransient {
            fields.append(("x-should-retry", "false"))
        }
        if let retryAfterSeconds {
            fields.append(("retry-after", String(retryAfterSeconds)))
            if code != .quotaExceeded {
                let milliseconds = rate?.waitMilliseconds ?? Int64(retryAfterSeconds) * 1_000
                fields.append(("retry-after-ms", String(milliseconds)))
            }
        }
        if let charge { fields += charge.fields }
        if let rate { fields += rate.fields }
        if let quota {
            let name = quota.quota.unit.rawValue
            fields.append(("x-ratelimit-limit-\(name)", String(quota.quota.amount)))
            fields.append(
                ("x-ratelimit-remaining-\(name)", String(max(0, quota.quota.amount - quota.settled - quota.held))))
            if let retryAfterSeconds {
                fields.append(("x-ratelimit-reset-\(name)", durationText(seconds: Int64(retryAfterSeconds))))
            }
            let seconds = quota.period.end.milliseconds(since: quota.period.start) / 1_000
            let window = quota.quota.frequency.recurs ? ";w=\(seconds)" : ""
            fields.append(
                (
                    "RateLimit-Policy",
                    "\"\(quota.quota.policy)\";q=\(quota.quota.amount)\(window)"
                        + (quota.quota.unit == .tokens ? ";qu=\"tokens\"" : "")
                ))
            let reset = retryAfterSeconds.map { ";t=\($0)" } ?? ""
            fields.append(
                (
                    "RateLimit",
                    "\"\(quota.quota.policy)\";r=\(max(0, quota.quota.amount - quota.settled - quota.held))\(reset)"
                ))
        }
        if !allowedMethods.isEmpty { fields.append(("allow", allowedMethods.joined(separator: ", "))) }
        return fields
    }
}

extension RateRefusal {
    /// Both families of limit headers, with the numbers that decided.
    fileprivate var fields: [(String, String)] {
        let isTimed = unit != .concurrency
        var fields: [(String, String)] = []
        if isTimed {
            fields.append(("x-ratelimit-limit-\(unit.rawValue)", String(limit.amount)))
            fields.append(("x-ratelimit-remaining-\(unit.rawValue)", String(remaining)))
            fields.append(("x-ratelimit-reset-\(unit.rawValue)", durationText(seconds: resetSeconds)))
        }
        let name =
            switch unit {
            case .requests: ""
            case .tokens: ";qu=\"tokens\""
            case .concurrency: ";qu=\"concurrent-requests\""
            }
        fields.append(("RateLimit-Policy", "\"\(policy)\";q=\(limit.amount)\(isTimed ? ";w=60" : "")\(name)"))
        fields.append(("RateLimit", "\"\(policy)\";r=\(remaining)\(isTimed ? ";t=\(resetSeconds)" : "")"))
        return fields
    }
}

extension FailureCharge {
    /// As an answer's, and why there is a charge.
    fileprivate var fields: [(String, String)] {
        var fields = [
            ("x-weir-model", model), ("x-weir-charged", "failed_request"), ("x-weir-usage", "in=0, cached=0, out=0"),
        ]
        guard let cost else { return fields }
        fields.append(("x-weir-price-version", tierVersionID.priceVersionText))
        fields.append(("x-weir-cost-micros", "\(cost.value); currency=\(currency)"))
        return fields
    }
}
