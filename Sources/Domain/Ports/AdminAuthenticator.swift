/// Says who administrates. The gateway's key snapshot implements it, so that both listeners know a key's state from one place.
public protocol AdminAuthenticator: Sendable {
    /// - Parameter key: what stood behind `Bearer`; `nil` where nothing was sent.
    /// - Throws: `missing_key`, `invalid_api_key`, `wrong_plane` for a customer's key, `metering_unavailable` when it cannot be looked up.
    func administrator(presenting key: [UInt8]?) async throws(Refusal) -> AdminPrincipal
}
