#if WEIR_UNMETERED_BASELINE
    internal import Domain
    internal import Synchronization

    /// The first caller, for whom everybody is taken afterwards: the build that admission is measured against checks nobody.
    final class UnmeteredCaller: Sendable {
        private let first = AtomicLazyReference<Principal>()

        var principal: Principal? { first.load() }

        func remember(_ principal: Principal) { _ = first.storeIfNil(principal) }
    }
#endif
