internal import Domain

extension PredictRequest {
    /// Adds to the hash what a model's requests are told apart by.
    /// - Returns: false where the request has nothing of the kind; it is drawn by chance then.
    func tell(_ rule: Stickiness, of principal: Principal, to hash: inout StableHash) -> Bool {
        switch rule {
        case .none: return false
        case .tenant: hash.combine(principal.tenantID)
        case .key: hash.combine(principal.keyID)
        case .user:
            if let user = principal.userID { hash.combine(user) } else { hash.combine(principal.keyID) }
        case .field(let name):
            guard let extra, tape.matches(extra.key, text: name) else { return false }
            // However it is written, a text is the same caller.
            if tape.hasEscape(extra.value), let text = tape.string(extra.value) {
                hash.combine(text.utf8)
            } else {
                tape.withBytes(of: extra.value) { hash.combine($0) }
            }
        }
        return true
    }
}
