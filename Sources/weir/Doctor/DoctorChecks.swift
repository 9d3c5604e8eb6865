import Domain
import Foundation
import Glibc
import InferenceClient
import Logging
import NIOCore
import NIOPosix
import RedisDriver

/// The checks of `weir doctor`. Each finds one thing and none throws: a doctor who falls ill at the first symptom is of
/// no use.
struct DoctorChecks: Sendable {
    let settings: Settings

    func run() async -> [DoctorFinding] {
        var findings = [pepper(), openFiles()]
        findings += await database()
        findings.append(await redis())
        findings.append(await listener("gateway.port", host: settings.host, port: settings.port, variable: "WEIR_PORT"))
        findings.append(
            await listener(
                "admin.port", host: settings.adminHost, port: settings.adminPort, variable: "WEIR_ADMIN_PORT"))
        findings += await adminAndWorkers()
        return findings
    }

    private func pepper() -> DoctorFinding {
        settings.keyPepper == nil
            ? .failed(
                "pepper", "WEIR_KEY_PEPPER is not set",
                "set it, or WEIR_KEY_PEPPER_FILE, to the secret under which this installation's keys were made; for a new installation "
                    + "`openssl rand -hex 32` makes one")
            : .fine("pepper", "set, and long enough")
    }

    /// Every connection needs a descriptor, towards the client and towards the worker.
    private func openFiles() -> DoctorFinding {
        var limit = rlimit()
        getrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit)
        return limit.rlim_cur < 4_096
            ? .warning(
                "files", "this process may open \(limit.rlim_cur) files",
                "raise it: `ulimit -n 65536`, or LimitNOFILE= in the unit")
            : .fine("files", "this process may open \(limit.rlim_cur) files")
    }

    private func database() async -> [DoctorFinding] {
        guard let url = settings.databaseURL else {
            return [
                .failed(
                    "database", "DATABASE_URL is not set",
                    "set it, or DATABASE_URL_FILE, as postgresql://user:password@host:port/database")
            ]
        }
        return await DatabaseCheck.run(url: url)
    }

    private func redis() async -> DoctorFinding {
        guard let url = settings.redisURL else {
            return .skipped("redis", "REDIS_URL is not set; routes come from PostgreSQL alone")
        }
        let group = MultiThreadedEventLoopGroup(numberOfThreads: 1)
        let finding = await pingRedis(url, group)
        try? await group.shutdownGracefully()
        return finding
    }

    private func pingRedis(_ url: String, _ group: MultiThreadedEventLoopGroup) async -> DoctorFinding {
        do throws(RedisError) {
            let client = try RedisClient(
                configuration: RedisConfiguration(url: url), eventLoopGroup: group, logger: Logger(label: "weir.doctor")
            )
            client.start()
            do throws(RedisError) {
                try await client.ping()
            } catch {
                await client.shutdown()
                throw error
            }
            await client.shutdown()
            return .fine("redis", "answers")
        } catch {
            return .warning(
                "redis", "\(error)",
                "check that Redis runs where REDIS_URL says and that the password is right; until then Weir serves without it"
            )
        }
    }

    /// A port is fine if nobody has it, or if Weir itself answers on it.
    private func listener(_ check: String, host: String, port: Int, variable: String) async -> DoctorFinding {
        guard port != 0 else { return .skipped(check, "any free port is taken") }
        let shown = host.contains(":") ? "[\(host)]" : host == "0.0.0.0" ? "127.0.0.1" : host
        let remedy = "see what it is with `ss -ltnp 'sport = :\(port)'`, or choose another port with \(variable)"
        if let answer = await LocalHTTP.answer(to: "http://\(shown):\(port)/healthz") {
            return answer.isOurs
                ? .fine(check, "Weir answers on port \(port)")
                : .failed(check, "port \(port) is taken by something that speaks HTTP and is not Weir", remedy)
        }
        if FreePort.isFree(port) { return .fine(check, "port \(port) is free") }
        if FreePort.isPrivileged(port) {
            return .failed(
                check, "port \(port) is not for this user to listen on",
                "choose a port from 1024 with \(variable), or give the process the capability CAP_NET_BIND_SERVICE")
        }
        return .failed(check, "port \(port) is taken by something that does not speak HTTP", remedy)
    }

    /// Through the admin API, because it alone knows the routes that gateways use.
    private func adminAndWorkers() async -> [DoctorFinding] {
        guard settings.adminKey != nil, let client = try? AdminClient(settings) else {
            return [
                .skipped("admin", "WEIR_ADMIN_KEY is not set, so the admin API is not asked"),
                .skipped("workers", "the routes are known to the admin API only"),
            ]
        }
        let routes: [AdminRoute]
        do throws(CommandFailure) {
            routes = try await self.routes(client)
        } catch {
            return [
                .failed(
                    "admin", error.message,
                    "start `weir serve` with the role admin, and set WEIR_ADMIN_URL and WEIR_ADMIN_KEY to it"),
                .skipped("workers", "the routes are known to the admin API only"),
            ]
        }
        return [.fine("admin", "\(settings.adminURL) answers and accepts the key")] + (await workers(routes))
    }

    /// All of them, page by page; the bound is for a server that never says that it is the last one.
    private func routes(_ client: AdminClient) async throws(CommandFailure) -> [AdminRoute] {
        var routes: [AdminRoute] = []
        var last: String?
        for _ in 0..<1_000 {
            let query: [(String, String?)] = [("limit", "100"), ("after", last)]
            guard let call = try? AdminRequest(.get, ["routes"], query: query) else { break }
            let page = try await client.send(call).decoded(AdminPage<AdminRoute>.self)
            routes += page.data
            last = page.lastId
            guard page.hasMore, last != nil else { break }
        }
        return routes
    }

    private func workers(_ routes: [AdminRoute]) async -> [DoctorFinding] {
        guard !routes.isEmpty else {
            return [
                .warning(
                    "workers", "there is no route", "start a worker and name it: `weir routes set MODEL HOST:PORT`")
            ]
        }
        var findings: [DoctorFinding] = []
        for route in routes {
            for replica in route.replicas { findings.append(await worker(route.model, replica)) }
        }
        return findings
    }

    private func worker(_ model: String, _ replica: AdminReplica) async -> DoctorFinding {
        let check = "worker \(model) \(replica.address)"
        guard let address = WorkerAddress(replica.address) else {
            return .failed(check, "is no address", "set the route again: `weir routes set \(model) HOST:PORT`")
        }
        guard settings.workerAddresses.permits(numericHost: address.host) || NetworkName.isName(address.host) else {
            return .failed(
                check, "is in none of WEIR_WORKER_NETWORKS, so it is never called",
                "add its network there, or correct the route")
        }
        let scheme = address.usesTLS ? "https" : "http"
        let path = replica.protocol == WorkerProtocol.oip.rawValue ? "/v2/health/ready" : "/health"
        switch await LocalHTTP.status(of: "\(scheme)://\(address)\(path)") {
        case 200?: return .fine(check, "is ready")
        case let status?:
            return .warning(
                check, "answers \(path) with status \(status)",
                "look at the worker's log: it may still be loading its model")
        case nil:
            return .failed(
                check, "cannot be reached",
                "start the worker, or correct the route: `weir routes set \(model) HOST:PORT`")
        }
    }
}

/// Tells names from numeric addresses.
enum NetworkName {
    /// A name has a letter in its last label; `127.1` and `2130706433` are addresses in disguise.
    static func isName(_ host: String) -> Bool {
        guard !host.contains(":"), let last = host.split(separator: ".").last else { return false }
        return last.contains { $0.isLetter } && !last.lowercased().hasPrefix("0x")
    }
}
