// swift-tools-version: 6.1
// Rooms and their one-way imports: docs/architecture.md. TidyTests holds the code to them.
import PackageDescription

// Faults that the simulator must find (docs/durability.md) exist only in builds made for the tests.
let isTestBuild = Context.environment["LOGDISK_TEST_BUILD"] == "1"
let swiftSettings: [SwiftSetting] = isTestBuild ? [.define("DELIBERATE_FAULTS")] : []

let package = Package(
    name: "logdisk",
    products: [.executable(name: "logdisk", targets: ["logdisk"])],
    dependencies: [
        .package(url: "https://github.com/apple/swift-argument-parser", from: "1.8.2"),
        .package(url: "https://github.com/apple/swift-crypto", from: "4.5.2"),
        .package(url: "https://github.com/apple/swift-log", from: "1.16.2"),
        .package(url: "https://github.com/apple/swift-nio", from: "2.101.2"),
        .package(url: "https://github.com/apple/swift-nio-ssl", from: "2.37.6"),
        .package(url: "https://github.com/hummingbird-project/hummingbird", from: "2.28.1"),
        .package(url: "https://github.com/swift-server/async-http-client", from: "1.37.0"),
    ],
    targets: [
        .systemLibrary(
            name: "CFuse", pkgConfig: "fuse3", providers: [.apt(["libfuse3-dev", "fuse3"])]),
        .systemLibrary(name: "CLZ4", pkgConfig: "liblz4", providers: [.apt(["liblz4-dev"])]),
        .target(name: "CLinux", cSettings: [.unsafeFlags(["-O2"])]),
        .target(name: "BlockModel", swiftSettings: swiftSettings),
        .target(
            name: "DiskIO", dependencies: ["CLinux"], swiftSettings: swiftSettings),
        .target(
            name: "LogFormat",
            dependencies: [
                "BlockModel", "CLinux", "CLZ4", .product(name: "Crypto", package: "swift-crypto"),
            ], swiftSettings: swiftSettings),
        .target(
            name: "WriteLog", dependencies: ["BlockModel", "DiskIO", "LogFormat", "CLinux"],
            swiftSettings: swiftSettings),
        .target(
            name: "History",
            dependencies: [
                "ServerAPI", "BlockModel", "DiskIO", "LogFormat",
                .product(name: "Crypto", package: "swift-crypto"),
            ],
            swiftSettings: swiftSettings),
        .target(
            name: "ProtectedVolume",
            dependencies: ["BlockModel", "DiskIO", "LogFormat", "WriteLog", "CLinux"],
            swiftSettings: swiftSettings),
        .target(
            name: "FuseMount", dependencies: ["BlockModel", "CFuse", "CLinux"],
            swiftSettings: swiftSettings),
        // What a log server and its clients say to each other: values only.
        .target(name: "ServerAPI", swiftSettings: swiftSettings),
        .target(
            name: "LogServer",
            dependencies: [
                "ServerAPI", "BlockModel", "DiskIO", "LogFormat", "History",
                .product(name: "Crypto", package: "swift-crypto"),
                .product(name: "Logging", package: "swift-log"),
                .product(name: "Hummingbird", package: "hummingbird"),
                .product(name: "HummingbirdCore", package: "hummingbird"),
                .product(name: "NIOCore", package: "swift-nio"),
                .product(name: "NIOPosix", package: "swift-nio"),
                .product(name: "NIOSSL", package: "swift-nio-ssl"),
            ], swiftSettings: swiftSettings),
        .target(
            name: "Shipping",
            dependencies: [
                "ServerAPI", "BlockModel", "DiskIO", "LogFormat", "History", "CLinux",
                .product(name: "Crypto", package: "swift-crypto"),
                .product(name: "Logging", package: "swift-log"),
                .product(name: "NIOCore", package: "swift-nio"),
                .product(name: "NIOHTTP1", package: "swift-nio"),
                .product(name: "NIOPosix", package: "swift-nio"),
                .product(name: "NIOSSL", package: "swift-nio-ssl"),
            ], swiftSettings: swiftSettings),
        // History on S3-compatible object storage.
        .target(
            name: "ObjectStorage",
            dependencies: [
                "ServerAPI", "BlockModel", "DiskIO", "LogFormat", "History", "Shipping",
                .product(name: "AsyncHTTPClient", package: "async-http-client"),
                .product(name: "Crypto", package: "swift-crypto"),
                .product(name: "Logging", package: "swift-log"),
                .product(name: "NIOCore", package: "swift-nio"),
                .product(name: "NIOHTTP1", package: "swift-nio"),
                .product(name: "NIOPosix", package: "swift-nio"),
                .product(name: "NIOSSL", package: "swift-nio-ssl"),
            ], swiftSettings: swiftSettings),
        .target(
            name: "Spread",
            dependencies: [
                "CommandText", "DiskIO", "CLinux",
                .product(name: "Crypto", package: "swift-crypto"),
            ], swiftSettings: swiftSettings),
        // A log server as a backup device: the joint of Spread and Shipping.
        .target(
            name: "Offsite",
            dependencies: [
                "ServerAPI", "Shipping", "ObjectStorage", "Spread", "DiskIO", "CLinux",
                .product(name: "Crypto", package: "swift-crypto"),
            ], swiftSettings: swiftSettings),
        // Text of the command line, pure: sizes, durations, times, tables, progress, exit codes,
        // errors, the status in its three forms. No input or output.
        .target(name: "CommandText", swiftSettings: swiftSettings),
        .testTarget(
            name: "FuseMountTests", dependencies: ["BlockModel", "CLinux", "FuseMount"],
            swiftSettings: swiftSettings),
        .executableTarget(
            name: "logdisk",
            dependencies: [
                "CommandText", "BlockModel", "DiskIO", "LogFormat", "WriteLog", "History",
                "ProtectedVolume", "FuseMount", "ServerAPI", "LogServer", "Shipping", "Spread",
                "Offsite", "ObjectStorage",
                .product(name: "ArgumentParser", package: "swift-argument-parser"),
                .product(name: "Logging", package: "swift-log"),
                .product(name: "Hummingbird", package: "hummingbird"),
                .product(name: "HummingbirdCore", package: "hummingbird"),
                .product(name: "AsyncHTTPClient", package: "async-http-client"),
                .product(name: "NIOCore", package: "swift-nio"),
                .product(name: "NIOPosix", package: "swift-nio"),
            ], swiftSettings: swiftSettings),
        .testTarget(
            name: "CommandTests", dependencies: ["CommandText", "CLinux"],
            swiftSettings: swiftSettings),
        .testTarget(name: "CLinuxTests", dependencies: ["CLinux"], swiftSettings: swiftSettings),
        .testTarget(
            name: "BlockModelTests", dependencies: ["BlockModel", "DiskIO"],
            swiftSettings: swiftSettings),
        .testTarget(name: "DiskIOTests", dependencies: ["DiskIO"], swiftSettings: swiftSettings),
        .testTarget(
            name: "LogFormatTests", dependencies: ["BlockModel", "DiskIO", "LogFormat"],
            swiftSettings: swiftSettings),
        .executableTarget(
            name: "ReplayBench", dependencies: ["BlockModel", "DiskIO", "LogFormat", "History"],
            path: "Benchmarks/ReplayBench", swiftSettings: swiftSettings),
        .testTarget(
            name: "HistoryTests",
            dependencies: [
                "BlockModel", "DiskIO", "LogFormat", "History", "HistoryModel",
                "SegmentStoreSuite",
            ], swiftSettings: swiftSettings),
        // What every segment store must do; for the tests of all rooms that have one.
        .target(
            name: "SegmentStoreSuite", dependencies: ["BlockModel", "LogFormat", "History"],
            path: "Tests/SegmentStoreSuite", swiftSettings: swiftSettings),
        // Bare sockets and a proxy that does what networks do; for the tests of several rooms.
        .target(name: "RawSockets", path: "Tests/RawSockets", swiftSettings: swiftSettings),
        // Real object stores, started and stopped by the tests.
        .target(
            name: "ObjectEngines",
            dependencies: ["RawSockets", .product(name: "Crypto", package: "swift-crypto")],
            path: "Tests/ObjectEngines", swiftSettings: swiftSettings),
        .testTarget(
            name: "ObjectEngineTests", dependencies: ["ObjectEngines", "RawSockets"],
            swiftSettings: swiftSettings),
        // What a volume in object storage must do, at any store; for the tests with and without
        // real engines.
        .target(
            name: "ObjectStorageSuite",
            dependencies: [
                "ServerAPI", "BlockModel", "LogFormat", "History", "Shipping", "ObjectStorage",
                "SegmentStoreSuite", "HistoryModel", "DiskIO",
            ], path: "Tests/ObjectStorageSuite", swiftSettings: swiftSettings),
        // A model volume with its history; for the tests of several rooms.
        .target(
            name: "HistoryModel", dependencies: ["BlockModel", "DiskIO", "LogFormat", "History"],
            path: "Tests/HistoryModel", swiftSettings: swiftSettings),
        // Lifetimes of volumes on simulated disks; for the tests and tools/simulate.
        .target(
            name: "Simulator",
            dependencies: [
                "BlockModel", "DiskIO", "LogFormat", "WriteLog", "ProtectedVolume", "History",
            ], path: "Tests/Simulator", swiftSettings: swiftSettings),
        .executableTarget(
            name: "simulate", dependencies: ["LogFormat", "Simulator"],
            path: "Tests/SimulateCommand", swiftSettings: swiftSettings),
        .testTarget(
            name: "EndToEndTests", dependencies: ["CLinux", "CommandText", "ObjectEngines"],
            swiftSettings: swiftSettings),
        .testTarget(
            name: "SimulatorTests", dependencies: ["LogFormat", "Simulator", "simulate"],
            swiftSettings: swiftSettings),
        .testTarget(
            name: "WriteLogTests",
            dependencies: ["BlockModel", "DiskIO", "LogFormat", "WriteLog", "CLinux"],
            swiftSettings: swiftSettings),
        .testTarget(
            name: "ProtectedVolumeTests",
            dependencies: [
                "BlockModel", "DiskIO", "LogFormat", "WriteLog", "ProtectedVolume", "CLinux",
            ], swiftSettings: swiftSettings),
        .testTarget(
            name: "LogServerTests",
            dependencies: [
                "ServerAPI", "BlockModel", "DiskIO", "LogFormat", "History", "LogServer",
                "Shipping",
            ], swiftSettings: swiftSettings),
        .testTarget(
            name: "ShippingTests",
            dependencies: [
                "ServerAPI", "BlockModel", "DiskIO", "LogFormat", "History", "LogServer",
                "Shipping", "HistoryModel", "SegmentStoreSuite", "RawSockets",
                .product(name: "Crypto", package: "swift-crypto"),
                .product(name: "Logging", package: "swift-log"),
            ], swiftSettings: swiftSettings),
        .testTarget(
            name: "ObjectStorageTests",
            dependencies: [
                "ServerAPI", "BlockModel", "DiskIO", "LogFormat", "History", "Shipping",
                "ObjectStorage", "ObjectStorageSuite", "ObjectEngines", "HistoryModel",
                "SegmentStoreSuite", "RawSockets",
                .product(name: "Crypto", package: "swift-crypto"),
                .product(name: "Logging", package: "swift-log"),
            ], swiftSettings: swiftSettings),
        .testTarget(
            name: "SpreadTests",
            dependencies: [
                "CLinux", "DiskIO", "Spread", "Offsite", "ServerAPI", "Shipping", "LogServer",
                "ObjectStorage", "ObjectEngines",
                .product(name: "Crypto", package: "swift-crypto"),
                .product(name: "Logging", package: "swift-log"),
            ], swiftSettings: swiftSettings),
        .testTarget(name: "TidyTests", swiftSettings: swiftSettings),
    ],
    swiftLanguageModes: [.v6]
)
