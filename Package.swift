// swift-tools-version:6.2
import PackageDescription

/// Every target of ours is compiled with the same strictness. Language mode 6 implies complete
/// concurrency checking; the features below are the ones that it does not imply yet.
let strictBase: [SwiftSetting] = [
    .swiftLanguageMode(.v6),
    .enableUpcomingFeature("ExistentialAny"),
    .enableUpcomingFeature("InternalImportsByDefault"),
    .enableUpcomingFeature("NonisolatedNonsendingByDefault"),
    .enableUpcomingFeature("InferIsolatedConformances"),
    .enableUpcomingFeature("ImmutableWeakCaptures"),
    .treatAllWarnings(as: .error),
    // Crash points and seeded defects exist in debug builds only; a release build contains neither.
    .define("WEIR_FAULTS", .when(configuration: .debug)),
]

let strict = strictBase + [.enableUpcomingFeature("MemberImportVisibility")]

/// The executable uses Glibc and NIO in one module, and both import the system's `stat` and `timespec`: with `MemberImportVisibility` the
/// compiler takes their members for those of NIO's C module, which is no product that could be imported.
let strictForExecutable = strictBase

let argumentParser = Target.Dependency.product(name: "ArgumentParser", package: "swift-argument-parser")
let asyncHTTPClient = Target.Dependency.product(name: "AsyncHTTPClient", package: "async-http-client")
let crypto = Target.Dependency.product(name: "Crypto", package: "swift-crypto")
let httpTypes = Target.Dependency.product(name: "HTTPTypes", package: "swift-http-types")
let hummingbird = Target.Dependency.product(name: "Hummingbird", package: "hummingbird")
let hummingbirdCore = Target.Dependency.product(name: "HummingbirdCore", package: "hummingbird")
let hummingbirdTesting = Target.Dependency.product(name: "HummingbirdTesting", package: "hummingbird")
let logging = Target.Dependency.product(name: "Logging", package: "swift-log")
let metrics = Target.Dependency.product(name: "Metrics", package: "swift-metrics")
let coreMetrics = Target.Dependency.product(name: "CoreMetrics", package: "swift-metrics")
let nioCore = Target.Dependency.product(name: "NIOCore", package: "swift-nio")
let nioPosix = Target.Dependency.product(name: "NIOPosix", package: "swift-nio")
let nioEmbedded = Target.Dependency.product(name: "NIOEmbedded", package: "swift-nio")
let nioHTTP1 = Target.Dependency.product(name: "NIOHTTP1", package: "swift-nio")
let nioHTTPTypes = Target.Dependency.product(name: "NIOHTTPTypes", package: "swift-nio-extras")
let nioHTTPTypesHTTP1 = Target.Dependency.product(name: "NIOHTTPTypesHTTP1", package: "swift-nio-extras")
let nioTLS = Target.Dependency.product(name: "NIOTLS", package: "swift-nio")
let nioSSL = Target.Dependency.product(name: "NIOSSL", package: "swift-nio-ssl")
let serviceLifecycle = Target.Dependency.product(name: "ServiceLifecycle", package: "swift-service-lifecycle")

func library(
    _ name: String, uses own: [Target.Dependency] = [], _ others: [Target.Dependency] = [],
    resources: [Resource] = []
) -> Target {
    .target(name: name, dependencies: own + others, resources: resources, swiftSettings: strict)
}

func tests(
    _ name: String, uses own: [Target.Dependency] = [], _ others: [Target.Dependency] = []
) -> Target {
    .testTarget(name: name, dependencies: own + others, swiftSettings: strict)
}

let package = Package(
    name: "weir",
    platforms: [.macOS(.v15)],
    products: [.executable(name: "weir", targets: ["weir"])],
    dependencies: [
        .package(url: "https://github.com/apple/swift-argument-parser", from: "1.8.2"),
        .package(url: "https://github.com/apple/swift-crypto", from: "4.5.2"),
        .package(url: "https://github.com/apple/swift-http-types", from: "1.8.0"),
        .package(url: "https://github.com/apple/swift-log", from: "1.16.2"),
        .package(url: "https://github.com/apple/swift-metrics", from: "2.13.0"),
        // 2.100.0 and later bound the header block and validate outgoing heads (CVE-2026-28980, GHSA-cq87-8r7h-962v).
        .package(url: "https://github.com/apple/swift-nio", from: "2.101.2"),
        .package(url: "https://github.com/apple/swift-nio-extras", from: "1.35.2"),
        .package(url: "https://github.com/apple/swift-nio-ssl", from: "2.37.6"),
        .package(url: "https://github.com/hummingbird-project/hummingbird", from: "2.28.1"),
        .package(url: "https://github.com/swift-server/async-http-client", from: "1.37.0"),
        .package(url: "https://github.com/swift-server/swift-service-lifecycle", from: "2.13.0"),
    ],
    targets: [
        .systemLibrary(name: "CLibPQ", pkgConfig: "libpq", providers: [.apt(["libpq-dev"])]),
        // No pkgConfig: hiredis's file carries a flag that the package manager rejects; `link` in the module map is enough.
        .systemLibrary(name: "CHiredis", providers: [.apt(["libhiredis-dev"])]),
        .systemLibrary(name: "CArgon2", pkgConfig: "libargon2", providers: [.apt(["libargon2-dev"])]),

        library("Domain"),
        library("LedgerProof", uses: ["Domain"], [crypto]),
        library("PostgresDriver", uses: ["CLibPQ"], [logging, metrics, serviceLifecycle]),
        library("RedisDriver", uses: ["CHiredis"], [logging, metrics, nioCore, nioPosix, nioSSL]),
        library("PasswordHashing", uses: ["CArgon2"], [nioPosix]),
        library(
            "Storage", uses: ["Domain", "LedgerProof", "PostgresDriver", "RedisDriver", "PasswordHashing"],
            [crypto, logging, metrics]),
        library("InferenceClient", uses: ["Domain"], [nioCore, nioHTTP1, nioPosix, nioSSL, nioTLS, logging]),
        library("Billing", uses: ["Domain"]),
        library(
            "HTTPListener", uses: ["Domain"],
            [
                hummingbird, hummingbirdCore, httpTypes, logging, nioCore, nioHTTP1, nioHTTPTypes, nioHTTPTypesHTTP1,
            ]),
        library(
            "Gateway", uses: ["Domain", "LedgerProof", "Billing", "HTTPListener"],
            [
                crypto, hummingbird, hummingbirdCore, httpTypes, logging, metrics, nioCore, nioHTTP1, nioPosix,
                serviceLifecycle,
            ]),
        library(
            "Admin", uses: ["Domain", "LedgerProof", "Billing", "HTTPListener"],
            [hummingbird, hummingbirdCore, httpTypes, logging, metrics, nioCore]),
        library("Jobs", uses: ["Domain", "Billing"], [crypto, logging, metrics, serviceLifecycle]),
        library(
            "ReferenceWorker", uses: ["Domain"], [logging, nioCore, nioPosix, nioHTTP1],
            resources: [.embedInCode("Models/iris.json")]),
        .executableTarget(
            name: "weir",
            dependencies: [
                "Domain", "LedgerProof", "PostgresDriver", "RedisDriver", "PasswordHashing", "Storage",
                "InferenceClient",
                "Billing", "HTTPListener", "Gateway", "Admin", "Jobs", "ReferenceWorker",
                argumentParser, asyncHTTPClient, crypto, coreMetrics, hummingbird, logging, metrics, nioCore, nioPosix,
                serviceLifecycle,
            ],
            swiftSettings: strictForExecutable),

        .target(
            name: "TestSupport", dependencies: ["Domain", "PostgresDriver", "Storage", nioCore, nioPosix, logging],
            path: "Tests/TestSupport", swiftSettings: strict),
        tests("DomainTests", uses: ["Domain", "TestSupport"]),
        tests("LedgerProofTests", uses: ["LedgerProof", "Domain", "TestSupport"]),
        tests("PostgresDriverTests", uses: ["PostgresDriver", "TestSupport"], [logging]),
        tests("RedisDriverTests", uses: ["RedisDriver", "TestSupport"], [logging, nioCore, nioEmbedded, nioPosix]),
        tests("PasswordHashingTests", uses: ["PasswordHashing"]),
        tests(
            "StorageTests",
            uses: ["Storage", "Domain", "LedgerProof", "PostgresDriver", "RedisDriver", "TestSupport"],
            [logging, nioPosix]),
        tests(
            "InferenceClientTests", uses: ["InferenceClient", "Domain", "TestSupport"],
            [logging, nioCore, nioPosix, nioHTTP1, nioSSL]),
        tests(
            "ReferenceWorkerTests", uses: ["ReferenceWorker", "Domain", "TestSupport"],
            [asyncHTTPClient, logging, nioCore, nioHTTP1]),
        tests("BillingTests", uses: ["Billing", "Domain", "TestSupport"]),
        tests(
            "HTTPListenerTests", uses: ["HTTPListener", "Domain", "TestSupport"],
            [httpTypes, hummingbird, nioCore, nioEmbedded, nioHTTP1]),
        tests(
            "GatewayTests", uses: ["Gateway", "Domain", "LedgerProof", "Billing", "HTTPListener", "TestSupport"],
            [
                crypto, hummingbird, hummingbirdTesting, logging, nioCore, nioEmbedded, nioHTTP1, nioHTTPTypes,
                nioPosix, serviceLifecycle,
            ]),
        tests(
            "AdminTests", uses: ["Admin", "Billing", "Domain", "HTTPListener", "TestSupport"],
            [hummingbird, hummingbirdTesting, logging, nioCore, nioPosix, serviceLifecycle]),
        tests("JobsTests", uses: ["Jobs", "Domain", "TestSupport"], [crypto, logging, serviceLifecycle]),
        tests(
            "WeirTests",
            uses: ["weir", "Domain", "Gateway", "InferenceClient", "RedisDriver", "Storage", "TestSupport"],
            [argumentParser, coreMetrics, logging, nioCore, nioPosix, serviceLifecycle]),
    ]
)
