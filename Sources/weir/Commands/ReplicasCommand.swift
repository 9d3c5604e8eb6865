import ArgumentParser

struct ReplicasCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "replicas",
        abstract: "Show how the replicas are, as one gateway sees them.",
        discussion: """
            Each gateway judges by its own calls and probes; ask each on its own admin listener.

            Examples:
              weir replicas
            """)

    @OptionGroup var admin: AdminOptions

    static func table(_ replicas: [AdminReplicaState]) -> String {
        var table = TextTable([
            "model", "worker", "state", "under way", "microseconds", "share", "failures in a row", "left out until",
        ])
        for replica in replicas {
            table.add([
                replica.model, replica.address, replica.state, String(replica.outstanding),
                String(replica.latencyMicroseconds), "\(replica.sharePercent)%", String(replica.consecutiveFailures),
                replica.ejectedUntil,
            ])
        }
        return table.text
    }

    func run() async throws {
        try await admin.send(AdminRequest(.get, ["replicas"])) {
            ReplicasCommand.table(try $0.decoded(AdminReplicaStates.self).data)
        }
    }
}
