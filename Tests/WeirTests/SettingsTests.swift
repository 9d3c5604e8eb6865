import Domain
import InferenceClient
import Logging
import Testing

@testable import weir

@Suite("Settings")
struct SettingsTests {
    static let pepper = "0123456789abcdef0123456789ABCDEF"
    static let adminKey = "weir_admn_0123456789AB_00000000000000000000000000000000" + "000000"

    private func load(
        _ environment: [String: String], flags: [String: String] = [:], files: [String: String] = [:],
        required: Set<String> = []
    ) throws(ConfigurationFailure) -> Settings {
        let source = SettingsSource(flags: flags, environment: environment) { path in
            guard let text = files[path] else { throw UnreadableFile(reason: "does not exist") }
            return text
        }
        return try Settings.load(source, required: required)
    }

    private func problems(
        _ environment: [String: String], flags: [String: String] = [:], files: [String: String] = [:],
        required: Set<String> = []
    ) -> [String] {
        do throws(ConfigurationFailure) {
            _ = try load(environment, flags: flags, files: files, required: required)
            return []
        } catch {
            return error.problems
        }
    }

    @Test("an empty environment gives the documented defaults")
    func defaults() throws {
        let settings = try load([:])
        #expect(settings.port == 8080 && settings.adminPort == 8081)
        #expect(settings.host == "127.0.0.1" && settings.adminHost == "127.0.0.1")
        #expect(settings.poolSize == 20 && settings.poolOverflow == 40)
        #expect(settings.poolTimeoutMilliseconds == 30_000 && settings.queryTimeoutMilliseconds == 30_000)
        #expect(settings.cacheDefaultSeconds == 300 && settings.cacheMaximumSeconds == 86_400)
        #expect(settings.inferenceTimeoutMilliseconds == 30_000)
        #expect(settings.metricsEnabled)
        #expect(settings.roles == [.gateway, .admin, .jobs, .dispatcher])
        #expect(settings.logLevel == .info)
        #expect(settings.eventLoops >= 1)
        #expect(settings.maximumBodyBytes == 1_048_576)
        #expect(
            settings.settlementWriters == 1 && settings.settlementQueueLimit == 20_000 && settings.leaseSeconds == 10)
        #expect(settings.workerNetworks.count == 6)
        #expect(settings.adminURL == "http://127.0.0.1:8081")
        #expect(
            settings.databaseURL == nil && settings.redisURL == nil && settings.keyPepper == nil
                && settings.adminKey == nil)
        #expect(settings.warnings.isEmpty)
    }

    @Test("every default can be read by its own kind")
    func defaultsAreGood() throws {
        for setting in SettingsCatalog.all {
            if let text = setting.defaultText { _ = try setting.kind.read(text) }
        }
    }

    @Test("a number that is read always has a default", arguments: SettingsCatalog.all.map(\.name))
    func numbersHaveDefaults(name: String) throws {
        let setting = try #require(SettingsCatalog.setting(named: name))
        switch setting.kind {
        case .integer, .seconds, .port, .boolean, .logLevel, .roles, .networks:
            #expect(setting.defaultText != nil || ["CACHE_TTL_SECONDS", "WEIR_WEBHOOK_NETWORKS"].contains(name))
        case .host, .databaseURL, .redisURL, .httpURL, .path, .word, .secret, .adminKey: break
        }
    }

    @Test(
        "a bad value stops the start with its name and what would be right",
        arguments: [
            ("DB_POOL_SIZE", "0", "from 1 to 1000"), ("DB_POOL_SIZE", "ten", "whole number"),
            ("DB_POOL_SIZE", "+5", "whole number"),
            ("DB_MAX_OVERFLOW", "-1", "from 0"), ("DB_POOL_TIMEOUT", "0", "seconds"),
            ("DB_POOL_TIMEOUT", "1e3", "seconds"),
            ("QUERY_TIMEOUT", "0.0001", "seconds"), ("QUERY_TIMEOUT", "4000", "to 3600"),
            ("CACHE_DEFAULT_TTL", "1.5", "whole number"),
            ("CACHE_MAX_TTL", "0", "from 1"), ("CACHE_TTL_SECONDS", "never", "whole number"),
            ("INFERENCE_TIMEOUT_SECONDS", "-3", "seconds"),
            ("ENABLE_METRICS", "maybe", "true or false"), ("WEIR_HOST", "a b", "host name"),
            ("WEIR_HOST", "127.0.0.1:80", "without a port"),
            ("WEIR_PORT", "65536", "0 to 65535"), ("WEIR_PORT", "http", "0 to 65535"),
            ("WEIR_ADMIN_HOST", "[::1]", "IP address"),
            ("WEIR_ADMIN_PORT", "-1", "0 to 65535"), ("WEIR_ROLES", "gateway,cook", "gateway, admin, jobs"),
            ("WEIR_ROLES", ",", "at least one"),
            ("WEIR_EVENT_LOOPS", "1025", "from 0 to 1024"), ("WEIR_LOG_LEVEL", "loud", "trace"),
            ("WEIR_MAX_BODY_BYTES", "1", "from 1024"),
            ("WEIR_WORKER_NETWORKS", "10.0.0.1/8", "no bits set behind"),
            ("WEIR_WORKER_NETWORKS", "10.0.0.0/33", "networks"),
            ("WEIR_WORKER_NETWORKS", "example.org", "networks"), ("WEIR_LEASE_SECONDS", "0", "from 1"),
            ("WEIR_SETTLEMENT_WRITERS", "65", "to 64"), ("WEIR_SETTLEMENT_QUEUE_LIMIT", "0", "from 1"),
            ("WEIR_SLOW_QUERY_MS", "x", "whole number"),
            ("WEIR_GRACE_SECONDS", "3601", "to 3600"), ("WEIR_HEAD_TIMEOUT_MS", "0", "from 1"),
            ("WEIR_BODY_TIMEOUT_MS", "0", "from 1"),
            ("WEIR_IDLE_TIMEOUT_MS", "0", "from 1"), ("WEIR_ADMIN_URL", "127.0.0.1:8081", "http://"),
            ("WEIR_ADMIN_URL", "http://host/admin", "without a path"), ("WEIR_ADMIN_URL", "ftp://host", "http://"),
            ("WEIR_PORT", "99999999999999999999", "0 to 65535"),
        ])
    func badValue(name: String, text: String, expected: String) throws {
        let found = problems([name: text])
        #expect(found.count == 1)
        let problem = try #require(found.first)
        #expect(problem.hasPrefix("\(name) is \"\(text)\""))
        #expect(problem.contains("the environment"))
        #expect(problem.contains(expected))
    }

    @Test(
        "a bad secret is named and never shown",
        arguments: [
            ("DATABASE_URL", "mysql://root:hunter2@db/x"), ("DATABASE_URL", "postgresql://u:hunter2%zz@db/x"),
            ("DATABASE_URL", "hunter2"),
            ("DATABASE_URL", "postgresql://u:hunter2@db:99999/x"), ("REDIS_URL", "http://:hunter2@r"),
            ("REDIS_URL", "hunter2:6379"),
            ("WEIR_KEY_PEPPER", "hunter2"), ("WEIR_ADMIN_KEY", "hunter2"),
            ("WEIR_ADMIN_URL", "http://admin:hunter2@host:8081"), ("WEIR_HOST", "u:hunter2@db"),
            ("WEIR_ADMIN_KEY", "weir_live_0123456789AB_000000000000000000000000000000000sImyu"),
        ])
    func badSecret(name: String, text: String) {
        let found = problems([name: text])
        #expect(found.count == 1)
        #expect(found.first?.hasPrefix(name) == true)
        #expect(found.first?.contains("hunter2") == false)
        #expect(found.first?.contains("sImyu") == false)
    }

    @Test("a pepper of one repeated character or of fewer than 32 bytes is refused")
    func weakPepper() {
        #expect(problems(["WEIR_KEY_PEPPER": String(repeating: "a", count: 64)]).count == 1)
        #expect(problems(["WEIR_KEY_PEPPER": String(Self.pepper.dropLast())]).count == 1)
        #expect(problems(["WEIR_KEY_PEPPER": Self.pepper]).isEmpty)
    }

    @Test("all problems are reported together")
    func allProblems() {
        let found = problems(
            ["WEIR_PORT": "x", "DB_POOL_SIZE": "y", "WEIR_KEY_PEPPER": "z", "WEIR_ROLES": "q"],
            required: ["DATABASE_URL"])
        #expect(found.count == 5)
        for name in ["WEIR_PORT", "DB_POOL_SIZE", "WEIR_KEY_PEPPER", "WEIR_ROLES", "DATABASE_URL"] {
            #expect(found.contains { $0.hasPrefix(name) })
        }
    }

    @Test("what serving needs and nobody gave is named")
    func requiredSettings() {
        let found = problems([:], required: Settings.requiredToServe)
        #expect(found.count == 2)
        #expect(found.contains { $0.hasPrefix("DATABASE_URL (or DATABASE_URL_FILE) is not set") })
    }

    @Test("flags win over the environment, which wins over the file")
    func precedence() throws {
        let files = ["/etc/weir.conf": "WEIR_PORT=1\nWEIR_ADMIN_PORT=2\nDB_POOL_SIZE=3\n"]
        let settings = try load(
            ["WEIR_CONFIG": "/etc/weir.conf", "WEIR_PORT": "11", "WEIR_ADMIN_PORT": "12"], flags: ["WEIR_PORT": "21"],
            files: files)
        #expect(settings.port == 21 && settings.adminPort == 12 && settings.poolSize == 3)
    }

    @Test("--config wins over WEIR_CONFIG")
    func configPrecedence() throws {
        let settings = try load(
            ["WEIR_CONFIG": "/a"], flags: ["WEIR_CONFIG": "/b"],
            files: ["/a": "DB_POOL_SIZE=1", "/b": "DB_POOL_SIZE=2"])
        #expect(settings.poolSize == 2)
    }

    @Test("a problem in the file is named with its line")
    func fileProblem() {
        let found = problems(
            ["WEIR_CONFIG": "/c"],
            files: ["/c": "# comment\n\nWEIR_PORT=abc\nnonsense\nDB_POOL_SIZE=1\nDB_POOL_SIZE=2\n"])
        #expect(found.contains { $0.contains("WEIR_PORT is \"abc\", from /c line 3") })
        #expect(found.contains { $0 == "/c line 4: expected NAME=value" })
        #expect(found.contains { $0 == "/c line 6: DB_POOL_SIZE stands in /c line 5 already" })
        #expect(found.count == 3)
    }

    @Test("a line that is not an assignment is reported without its text, which may be a secret")
    func fileProblemIsSilent() {
        #expect(problems(["WEIR_CONFIG": "/c"], files: ["/c": "hunter2"]) == ["/c line 1: expected NAME=value"])
    }

    @Test("quotes, export and white space in a file are understood")
    func fileSyntax() throws {
        let text = "export WEIR_HOST=\"::1\"\n  WEIR_ADMIN_HOST = '10.0.0.1' \n"
        #expect(problems(["WEIR_CONFIG": "/c"], files: ["/c": text]) == ["/c line 2: expected NAME=value"])
        let settings = try load(
            ["WEIR_CONFIG": "/c"], files: ["/c": "export WEIR_HOST=\"::1\"\n  WEIR_ADMIN_HOST='10.0.0.1' \r\n"])
        #expect(settings.host == "::1" && settings.adminHost == "10.0.0.1")
        #expect(problems(["WEIR_CONFIG": "/c"], files: ["/c": "WEIR_HOST=\"::1"]).count == 1)
    }

    @Test("a configuration file that cannot be read stops the start")
    func missingFile() {
        let found = problems(["WEIR_CONFIG": "/nowhere"])
        #expect(found == ["WEIR_CONFIG names /nowhere, which cannot be read: does not exist"])
    }

    @Test("an empty variable counts as absent")
    func emptyVariable() throws {
        #expect(try load(["WEIR_PORT": "", "REDIS_URL": ""]).port == 8080)
        #expect(problems(["DATABASE_URL": ""], required: ["DATABASE_URL"]).count == 1)
    }

    @Test(
        "a secret comes from the file that NAME_FILE names, trimmed",
        arguments: ["DATABASE_URL", "REDIS_URL", "WEIR_KEY_PEPPER"])
    func secretFile(name: String) throws {
        let text =
            [
                "DATABASE_URL": "postgresql://u:p@db/weir", "REDIS_URL": "redis://:p@r:6379/1",
                "WEIR_KEY_PEPPER": Self.pepper,
            ][name] ?? ""
        let settings = try load(
            [name + "_FILE": "/run/secret"], files: ["/run/secret": "  \(text)\n\n"], required: [name])
        let values = [
            "DATABASE_URL": settings.databaseURL, "REDIS_URL": settings.redisURL,
            "WEIR_KEY_PEPPER": settings.keyPepper.map { String(decoding: $0, as: UTF8.self) },
        ]
        #expect(values[name] == text)
    }

    @Test("a secret that is given twice is an error that names both places")
    func secretTwice() {
        let found = problems(
            ["WEIR_KEY_PEPPER": Self.pepper, "WEIR_KEY_PEPPER_FILE": "/run/secret"], files: ["/run/secret": Self.pepper]
        )
        #expect(found.count == 1)
        #expect(found.first?.contains("WEIR_KEY_PEPPER_FILE") == true && found.first?.contains(Self.pepper) == false)
    }

    @Test("a secret's file that is missing or empty is an error")
    func secretFileMissing() {
        #expect(
            problems(["REDIS_URL_FILE": "/nowhere"]) == [
                "REDIS_URL_FILE names /nowhere, which cannot be read: does not exist"
            ])
        #expect(problems(["REDIS_URL_FILE": "/e"], files: ["/e": " \n"]) == ["REDIS_URL_FILE names /e, which is empty"])
    }

    @Test("an unknown WEIR_ variable is a warning with the nearest name, and names of tests are not")
    func unknownNames() throws {
        let settings = try load([
            "WEIR_PROT": "1", "WEIR_TEST_DATABASE": "x", "WEIR_BINARY": "x", "WEIR_FAULT": "x", "WEIR_MUTANT": "x",
            "PATH": "/bin",
        ])
        #expect(settings.warnings.count == 1)
        #expect(settings.warnings.first?.contains("WEIR_PROT") == true)
        #expect(settings.warnings.first?.hasSuffix("WEIR_PORT") == true)
        #expect(settings.port == 8080)
    }

    @Test("an unknown name in the file stops the start")
    func unknownNameInFile() {
        let found = problems(["WEIR_CONFIG": "/c"], files: ["/c": "DB_POOLSIZE=5"])
        #expect(found == ["/c line 1: DB_POOLSIZE is not a setting of Weir; the nearest name is DB_POOL_SIZE"])
    }

    @Test("the alias of the cache's lifetime counts, and a contradiction is an error")
    func cacheAlias() throws {
        #expect(try load(["CACHE_TTL_SECONDS": "60"]).cacheDefaultSeconds == 60)
        #expect(try load(["CACHE_TTL_SECONDS": "60", "CACHE_DEFAULT_TTL": "60"]).cacheDefaultSeconds == 60)
        #expect(problems(["CACHE_TTL_SECONDS": "60", "CACHE_DEFAULT_TTL": "61"]).count == 1)
    }

    @Test("settings that contradict one another are errors")
    func contradictions() {
        #expect(problems(["CACHE_DEFAULT_TTL": "100", "CACHE_MAX_TTL": "99"]).count == 1)
        #expect(problems(["WEIR_PORT": "9000", "WEIR_ADMIN_PORT": "9000"]).count == 1)
        #expect(problems(["WEIR_PORT": "9000", "WEIR_ADMIN_PORT": "9000", "WEIR_ROLES": "gateway"]).isEmpty)
        #expect(problems(["WEIR_PORT": "0", "WEIR_ADMIN_PORT": "0"]).isEmpty)
    }

    @Test(
        "seconds are read exactly",
        arguments: [("30", 30_000), ("0.5", 500), ("1.25", 1_250), ("0.001", 1), ("2.", nil), (".5", nil)])
    func seconds(text: String, milliseconds: Int?) {
        let read = try? SettingKind.seconds(1...3_600_000).read(text)
        #expect(read == milliseconds.map { .number($0) })
    }

    @Test("an admin URL loses its slash")
    func adminURL() throws {
        #expect(try load(["WEIR_ADMIN_URL": "https://admin.example:8443/"]).adminURL == "https://admin.example:8443")
    }

    @Test("workers are allowed in the configured networks only")
    func workerNetworks() throws {
        let settings = try load(["WEIR_WORKER_NETWORKS": "10.0.0.0/8, fc00::/7"])
        let policy = settings.workerAddresses
        #expect(policy.permits(numericHost: "10.255.0.1") && policy.permits(numericHost: "fd12::1"))
        #expect(!policy.permits(numericHost: "11.0.0.1") && !policy.permits(numericHost: "127.0.0.1"))
        #expect(!policy.permits(numericHost: "::1") && !policy.permits(numericHost: "localhost"))
    }
}

@Suite("Database URL")
struct DatabaseURLTests {
    @Test(
        "SQLAlchemy's URLs become libpq's",
        arguments: [
            ("postgresql+asyncpg://u:p@db:5432/weir", "postgresql://u:p@db:5432/weir"),
            ("postgres://db/weir", "postgresql://db/weir"),
            ("postgresql+psycopg2://db/weir?sslmode=require", "postgresql://db/weir?sslmode=require"),
            ("postgresql+asyncpg://db/weir?ssl=true", "postgresql://db/weir?sslmode=require"),
            (
                "postgresql+asyncpg://db/weir?ssl=verify-full&prepared_statement_cache_size=0",
                "postgresql://db/weir?sslmode=verify-full"
            ),
            ("postgresql+asyncpg://db/weir?statement_cache_size=0", "postgresql://db/weir"),
            ("postgresql:///weir?host=%2Frun%2Fpg&user=weir", "postgresql:///weir?host=%2Frun%2Fpg&user=weir"),
            ("postgresql://a:5432,b:5433/weir", "postgresql://a:5432,b:5433/weir"),
            ("postgresql://[::1]:5432/weir", "postgresql://[::1]:5432/weir"),
        ])
    func converts(given: String, expected: String) {
        #expect(DatabaseURL(given)?.text == expected)
    }

    @Test(
        "what is no PostgreSQL URL is refused",
        arguments: [
            "", "postgresql", "postgresql://", "mysql://db", "postgresql+://db", "postgresql://d b/x",
            "postgresql://db:0/x", "postgresql://db/%4",
        ])
    func refuses(text: String) {
        #expect(DatabaseURL(text) == nil)
    }
}

@Suite("Nearest name")
struct NearestNameTests {
    @Test(
        "the distance counts edits",
        arguments: [("abc", "abc", 0), ("abc", "acb", 2), ("", "abc", 3), ("kitten", "sitting", 3)])
    func distance(left: String, right: String, expected: Int) {
        #expect(NearestName.distance(left, right) == expected)
        #expect(NearestName.distance(right, left) == expected)
    }
}
