import Domain
import Jobs
import Logging
import ServiceLifecycle
import Synchronization
import Testing

@Suite("recurring work")
struct RecurringTests {
    private struct Failure: Error {}

    private func group(_ services: [any Service]) -> ServiceGroup {
        ServiceGroup(configuration: ServiceGroupConfiguration(services: services, logger: quietLogger))
    }

    @Test("it is repeated, and a failure does not end it")
    func goesOn() async throws {
        let attempts = Attempts()
        let job = Recurring("test", everyMilliseconds: 1, logger: quietLogger) {
            if attempts.next() % 2 == 1 { throw Failure() }
        }
        let group = group([job])
        try await withThrowingTaskGroup(of: Void.self) { tasks in
            tasks.addTask { try await group.run() }
            await attempts.reach(6)
            await group.triggerGracefulShutdown()
            try await tasks.waitForAll()
        }
        #expect(attempts.count >= 6)
    }

    @Test("work that reports a cancellation while nobody cancelled it has failed and is tried again")
    func foreignCancellation() async throws {
        let attempts = Attempts()
        let job = Recurring("test", everyMilliseconds: 1, logger: quietLogger) {
            if attempts.next() == 1 { throw CancellationError() }
        }
        let group = group([job])
        try await withThrowingTaskGroup(of: Void.self) { tasks in
            tasks.addTask { try await group.run() }
            await attempts.reach(2)
            await group.triggerGracefulShutdown()
            try await tasks.waitForAll()
        }
    }

    @Test("a stop ends the pause at once")
    func stopEndsPause() async throws {
        let attempts = Attempts()
        let job = Recurring("test", everyMilliseconds: 3_600_000, logger: quietLogger) { _ = attempts.next() }
        let group = group([job])
        try await withThrowingTaskGroup(of: Void.self) { tasks in
            tasks.addTask { try await group.run() }
            await attempts.reach(1)
            await group.triggerGracefulShutdown()
            try await tasks.waitForAll()
        }
        #expect(attempts.count == 1)
    }

    @Test("a stop cancels the work that is under way, and that is no failure")
    func stopCancelsWork() async throws {
        let attempts = Attempts()
        let log = CountedLog()
        let job = Recurring("test", everyMilliseconds: 1, logger: log.logger) {
            _ = attempts.next()
            // As a store does it that is stopped while it works.
            do { try await Task.sleep(nanoseconds: 3_600_000_000_000) } catch {
                throw StoreUnavailable(cause: "cancelled")
            }
        }
        let group = group([job])
        try await withThrowingTaskGroup(of: Void.self) { tasks in
            tasks.addTask { try await group.run() }
            await attempts.reach(1)
            await group.triggerGracefulShutdown()
            try await tasks.waitForAll()
        }
        #expect(attempts.count == 1)
        #expect(log.warnings == 0)
    }

    @Test("cancelling its task ends it")
    func cancellation() async throws {
        let attempts = Attempts()
        let job = Recurring("test", everyMilliseconds: 3_600_000, logger: quietLogger) { _ = attempts.next() }
        try await withThrowingTaskGroup(of: Void.self) { tasks in
            tasks.addTask { try await job.run() }
            await attempts.reach(1)
            tasks.cancelAll()
            try await tasks.waitForAll()
        }
        #expect(attempts.count == 1)
    }

    @Test("a failure is logged with its cause")
    func logging() async throws {
        let attempts = Attempts()
        let log = CountedLog()
        let job = Recurring("test", everyMilliseconds: 1, logger: log.logger) {
            _ = attempts.next()
            throw StoreUnavailable(cause: "gone")
        }
        try await withThrowingTaskGroup(of: Void.self) { tasks in
            tasks.addTask { try await job.run() }
            await attempts.reach(2)
            tasks.cancelAll()
            try await tasks.waitForAll()
        }
        #expect(log.warnings >= 1)
        #expect(log.causes.first == "gone")
    }
}
