// Ceph with its S3 gateway (Debian: ceph-mon, ceph-osd, radosgw): one monitor, three OSDs on
// BlueStore in files, every object on all three, written when two have it. No manager: nothing here
// needs what it adds. Each server has a key of its own in one key ring. What a package of Ceph puts
// below /etc, /var/lib and /var/log is neither read nor written. `tools/setup --ceph` installs it.

import Foundation

enum Ceph {
    private static let programs = [
        "ceph", "ceph-authtool", "ceph-mon", "ceph-osd", "monmaptool", "radosgw", "radosgw-admin",
    ]
    private static let osds = 0..<3

    static var missing: String? {
        let standard = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
        let path = (ProcessInfo.processInfo.environment["PATH"] ?? "") + ":" + standard
        let folders = path.split(separator: ":")
        let absent = programs.filter { program in
            !folders.contains { FileManager.default.isExecutableFile(atPath: "\($0)/\(program)") }
        }
        return absent.isEmpty
            ? nil : "not installed (\(absent.joined(separator: ", "))): tools/setup --ceph"
    }

    static func start(
        writer: ObjectEngine.Key, reader: ObjectEngine.Key
    ) throws(EngineFailure) -> ObjectEngine.Started {
        let host = try EngineHost("ceph")
        do {
            let ports = try EngineHost.freePorts(3)
            let (monitor, gateway, secure) = (ports[0], ports[1], ports[2])
            let id = UUID().uuidString.lowercased()
            try configure(host, id: id, monitor: monitor, gateway: gateway, secure: secure)
            try startMonitor(host, id: id, port: monitor)
            let storage = try startOSDs(host)
            try makeUser(host, writer: writer, reader: reader)
            let begin: @Sendable (ObjectEngine.Part) throws(EngineFailure) -> pid_t = {
                part throws(EngineFailure) in
                switch part {
                case .storage: try startOSD(host, 0)
                case .gateway:
                    try host.start(
                        "gateway", ["radosgw", "-f", "-n", "client.rgw"],
                        environment: environment(host))
                }
            }
            return ObjectEngine.Started(
                host: host, port: gateway, securePort: secure,
                running: [.storage: storage, .gateway: try begin(.gateway)], begin: begin)
        } catch {
            let text = try? String(contentsOfFile: host.path("monitor.out"), encoding: .utf8)
            host.end()
            throw EngineFailure("\(error)\n\(text?.suffix(2000) ?? "")")
        }
    }

    private static func environment(_ host: EngineHost) -> [String: String] {
        ["CEPH_CONF": host.path("ceph.conf")]
    }

    @discardableResult
    private static func run(_ host: EngineHost, _ words: String...) throws(EngineFailure) -> String
    {
        try host.run(["timeout", "60"] + words, environment: environment(host))
    }

    /// Proposals of the monitor are not collected for a second each: starting is many of them.
    private static func configure(
        _ host: EngineHost, id: String, monitor: Int, gateway: Int, secure: Int
    ) throws(EngineFailure) {
        try host.write(
            """
            [global]
            fsid = \(id)
            mon host = v2:127.0.0.1:\(monitor)
            public addr = 127.0.0.1
            keyring = \(host.path("keyring"))
            run dir = \(host.folder)
            admin socket = \(host.folder)/$name.asok
            log file = \(host.folder)/$name.log
            mon cluster log file = \(host.folder)/cluster.log
            crash dir = \(host.folder)/crash
            mon data = \(host.folder)/mon
            osd data = \(host.folder)/osd$id
            rgw data = \(host.folder)/rgw
            chdir =
            osd objectstore = bluestore
            bluestore block size = 17179869184
            osd crush chooseleaf type = 0
            osd pool default size = 3
            osd pool default min size = 2
            osd pool default pg num = 8
            osd pool default pgp num = 8
            osd pool default pg autoscale mode = off
            rgw rados pool pg num min = 8
            mon data avail warn = 1
            mon data avail crit = 1
            auth allow insecure global id reclaim = false
            paxos propose interval = 0.05
            paxos min wait = 0.01
            rgw frontends = beast endpoint=127.0.0.1:\(gateway) tcp_nodelay=1 \
            ssl_endpoint=127.0.0.1:\(secure) ssl_certificate=\(host.certificate) \
            ssl_private_key=\(host.certificateKey)

            """, to: "ceph.conf")
        for name in ["mon", "rgw", "crash"] + osds.map({ "osd\($0)" }) {
            try host.makeFolder(name)
        }
        try host.makeCertificate()
        let ring = host.path("keyring")
        let all = ["--cap", "osd", "allow *", "--cap", "mgr", "allow *"]
        var entries = [
            ("mon.", ["--cap", "mon", "allow *"]),
            ("client.admin", ["--cap", "mon", "allow *"] + all),
            ("client.rgw", ["--cap", "mon", "allow rwx", "--cap", "osd", "allow rwx"]),
        ]
        entries += osds.map { ("osd.\($0)", ["--cap", "mon", "allow profile osd"] + all) }
        try host.write("", to: "keyring")
        for (name, rights) in entries {
            try host.run(["ceph-authtool", ring, "--gen-key", "-n", name] + rights)
        }
    }

    private static func startMonitor(
        _ host: EngineHost, id: String, port: Int
    ) throws(EngineFailure) {
        let map = host.path("monmap")
        try run(
            host, "monmaptool", "--create", "--fsid", id, "--addv", "a",
            "[v2:127.0.0.1:\(port)]", map)
        try run(
            host, "ceph-mon", "--mkfs", "-i", "a", "--monmap", map, "--keyring",
            host.path("keyring"))
        _ = try host.start(
            "monitor", ["ceph-mon", "-f", "-i", "a"], environment: environment(host))
    }

    /// The process of the first one.
    private static func startOSDs(_ host: EngineHost) throws(EngineFailure) -> pid_t {
        var making: [pid_t] = []
        let ids = osds.map { _ in UUID().uuidString.lowercased() }
        for (number, id) in zip(osds, ids) {
            let words = ["ceph-osd", "-i", "\(number)", "--mkfs", "--osd-uuid", id]
            making.append(
                try host.start("mkfs\(number)", words, environment: environment(host)))
        }
        // Numbers are given in order.
        for id in ids { try run(host, "ceph", "osd", "new", id) }
        for (number, process) in zip(osds, making) where EngineHost.reap(process) != 0 {
            let log = try? String(contentsOfFile: host.path("mkfs\(number).out"), encoding: .utf8)
            throw EngineFailure("OSD \(number) could not be made\n\(log ?? "")")
        }
        let first = try startOSD(host, 0)
        for number in osds.dropFirst() { _ = try startOSD(host, number) }
        return first
    }

    private static func startOSD(_ host: EngineHost, _ number: Int) throws(EngineFailure) -> pid_t {
        try host.start(
            "osd\(number)", ["ceph-osd", "-f", "-i", "\(number)"], environment: environment(host))
    }

    /// Waits for the OSDs by itself. The reader is a part of the writer that may only read:
    /// whatever the writer has, it sees.
    private static func makeUser(
        _ host: EngineHost, writer: ObjectEngine.Key, reader: ObjectEngine.Key
    ) throws(EngineFailure) {
        try run(
            host, "radosgw-admin", "user", "create", "--uid=logdisk", "--display-name=logdisk",
            "--access-key=\(writer.access)", "--secret-key=\(writer.secret)")
        try run(
            host, "radosgw-admin", "subuser", "create", "--uid=logdisk",
            "--subuser=logdisk:reader", "--access=read", "--key-type=s3",
            "--access-key=\(reader.access)", "--secret-key=\(reader.secret)")
    }
}
