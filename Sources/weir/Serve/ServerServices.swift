import Domain
import Gateway
import LedgerProof
import Logging
import PostgresDriver
import ServiceLifecycle
import Storage

/// Keeps keys and routes fresh: at once when the database says that something changed, and twice a second in any case, because a
/// notification is a hint and a route set by hand in Redis sends none.
struct ControlRefresh: Service {
    let keys: KeyCache
    let routes: RouteDirectory
    let cache: PredictionCache
    let ring: SigningKeyRing
    let watch: DatabaseWatch
    let events: AsyncStream<PostgresListener.Event>
    let logger: Logger

    func run() async throws {
        await cancelWhenGracefulShutdown {
            await withTaskGroup(of: Void.self) { group in
                group.addTask {
                    for await _ in events { await refresh() }
                }
                group.addTask {
                    while !Task.isCancelled {
                        await refresh()
                        try? await Task.sleep(nanoseconds: 500_000_000)
                    }
                }
            }
        }
    }

    private func refresh() async {
        do throws(StoreUnavailable) {
            try await keys.refresh()
            watch.answered()
        } catch {
            logger.debug("keys could not be refreshed", metadata: ["cause": "\(error.cause)"])
        }
        do throws(StoreUnavailable) {
            try await ring.refresh()
        } catch {
            logger.debug("signing keys could not be refreshed", metadata: ["cause": "\(error.cause)"])
        }
        await cache.refresh()
        await routes.refresh()
    }
}

/// Keeps quota leases alive while the process serves, and gives them back at its end.
struct QuotaService: Service {
    let quota: QuotaKeeper
    let everyMilliseconds: Int64
    let logger: Logger

    func run() async throws {
        await cancelWhenGracefulShutdown {
            while !Task.isCancelled {
                await quota.keep()
                try? await Task.sleep(nanoseconds: UInt64(max(everyMilliseconds, 50)) * 1_000_000)
            }
        }
        await quota.drain()
    }
}

/// Keeps the claims of idempotency keys alive while their requests run.
struct ClaimService: Service {
    let claims: ClaimKeeper
    let everyMilliseconds: Int64

    func run() async throws {
        await cancelWhenGracefulShutdown {
            while !Task.isCancelled {
                await claims.keep()
                try? await Task.sleep(nanoseconds: UInt64(max(everyMilliseconds, 50)) * 1_000_000)
            }
        }
    }
}

/// What the cache does beside the requests, and the claims of questions under way until the last has ended.
struct CacheService: Service {
    let cache: PredictionCache
    let graceMilliseconds: Int64

    func run() async throws {
        await cancelWhenGracefulShutdown { await cache.keep() }
        await cache.finish(withinMilliseconds: graceMilliseconds)
    }
}

/// Tells what was spent of rate limits while the process serves, and gives back what is held of them at its end.
struct RateService: Service {
    let rates: RateKeeper
    let everyMilliseconds: Int64

    func run() async throws {
        await cancelWhenGracefulShutdown {
            await withTaskGroup(of: Void.self) { group in
                group.addTask { await rates.returnWhatOthersNeed() }
                group.addTask {
                    while !Task.isCancelled {
                        await rates.keep()
                        try? await Task.sleep(nanoseconds: UInt64(max(everyMilliseconds, 25)) * 1_000_000)
                    }
                }
            }
        }
        await rates.drain()
    }
}

/// Writes what refused requests, twice a second while the process serves and once more at its end.
struct RefusalService: Service {
    let refusals: RefusalBuffer
    let store: any RefusalStore
    let logger: Logger

    func run() async throws {
        await cancelWhenGracefulShutdown {
            while !Task.isCancelled {
                await refusals.flush(to: store, logger: logger)
                try? await Task.sleep(nanoseconds: 500_000_000)
            }
        }
        await refusals.flush(to: store, logger: logger)
    }
}

/// Moves what time moves of the replicas' health, and asks them how they are.
struct DeliveryService: Service {
    let deliveries: DeliveryDirectory
    let prober: ReplicaProber

    func run() async throws {
        await cancelWhenGracefulShutdown {
            await withTaskGroup(of: Void.self) { group in
                group.addTask { await prober.run() }
                group.addTask {
                    while !Task.isCancelled {
                        deliveries.keep()
                        try? await Task.sleep(nanoseconds: 50_000_000)
                    }
                }
            }
        }
    }
}

/// Sends copies of requests while the process serves; those under way at its end are given up.
struct MirrorService: Service {
    let mirrors: MirrorTraffic

    func run() async throws {
        await cancelWhenGracefulShutdown { await mirrors.run() }
    }
}

/// Ends the settlement writers once nothing in front of them is serving any more.
struct SettlementService: Service {
    let settler: SettlementWriters
    let graceMilliseconds: Int64

    func run() async throws {
        try? await gracefulShutdown()
        await settler.shutdown(graceMilliseconds: graceMilliseconds)
    }
}

/// Looks at the gateway's queues once a second.
struct QueueService: Service {
    let queues: QueueWatch
    let logger: Logger

    func run() async throws {
        await cancelWhenGracefulShutdown {
            while !Task.isCancelled {
                await noting { () throws(StoreUnavailable) in try await queues.look() }
                try? await Task.sleep(nanoseconds: 1_000_000_000)
            }
        }
        await noting { () throws(StoreUnavailable) in try await queues.drain() }
    }

    private func noting(_ work: () async throws(StoreUnavailable) -> Void) async {
        do throws(StoreUnavailable) {
            try await work()
        } catch {
            logger.warning("queue depths could not be noted", metadata: ["cause": "\(error.cause)"])
        }
    }
}
