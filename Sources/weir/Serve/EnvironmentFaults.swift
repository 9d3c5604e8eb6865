#if WEIR_FAULTS
    import Domain
    import Foundation
    import Synchronization

    /// Faults named by the environment, in debug builds: `WEIR_FAULT=crash:<point>:<pass>` ends the process with SIGKILL at that pass of the
    /// point; `WEIR_MUTANT=<name>` plants a defect.
    final class EnvironmentFaults: FaultPlan {
        let mutant: Mutant?
        private let point: FaultPoint?
        private let passes: Int
        private let count = Atomic(0)

        init(_ environment: [String: String]) {
            mutant = environment["WEIR_MUTANT"].flatMap { Mutant(rawValue: $0) }
            let parts = (environment["WEIR_FAULT"] ?? "").split(separator: ":")
            if parts.count == 3, parts[0] == "crash", let point = FaultPoint(rawValue: String(parts[1])),
                let passes = Int(parts[2])
            {
                self.point = point
                self.passes = passes
            } else {
                point = nil
                passes = 0
            }
        }

        func pass(_ point: FaultPoint) {
            guard point == self.point else { return }
            if count.add(1, ordering: .relaxed).newValue == passes { kill(getpid(), SIGKILL) }
        }
    }
#endif
