/// A line of a request's head that says something about the cache, before anything is believed.
public enum CacheField: Sendable, Equatable {
    /// `Cache-Control`
    case control(String)
    /// `x-weir-cache`
    case use(String)
    /// `x-weir-cache-ttl`
    case ttl(String)
    /// `x-weir-cache-key`
    case label(String)
}
