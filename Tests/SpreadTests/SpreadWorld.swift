// A small world for the executor's tests: a tree of files in a folder, devices beside it that fail
// on demand, and a comparison of what is restored.

import CLinux
import DiskIO
import Foundation
import Spread
import Testing

/// A device that does what the one below does, until it is told to fail.
final class FaultyDevice: BackupDevice, @unchecked Sendable {
    // @unchecked: one thread at a time, as its base class says; tests look before and after runs.
    enum Call: Hashable { case begin, start, append, finish, sync, manifest, commit }

    let below: BackupDevice
    /// Which call fails, counted from 0, and with what. From then on everything does if `isFinal`.
    var plan: (call: Call, skip: Int, failure: DeviceFailure, isFinal: Bool)?
    /// Called in the first write.
    var firstAppend: (() -> Void)?
    /// Called in each write, with its number from 0.
    var everyAppend: ((Int) -> Void)?
    private(set) var counts: [Call: Int] = [:]
    /// Whether `beginSync` leaves the work to another thread, as the device below does it.
    var syncsBeside = false
    private var dead: DeviceFailure?

    init(_ below: BackupDevice) {
        self.below = below
        super.init(name: below.name)
    }

    private func count(_ call: Call) throws(DeviceFailure) {
        if let dead { throw dead }
        let number = counts[call, default: 0]
        counts[call] = number + 1
        if let plan, plan.call == call, plan.skip == number {
            if plan.isFinal { dead = plan.failure }
            throw plan.failure
        }
    }

    override func unfinished(_ setName: String) throws(DeviceFailure) -> UnfinishedSet? {
        try below.unfinished(setName)
    }
    override func begin(
        _ identity: SetIdentity, deviceID: [UInt8], reserveBytes: UInt64
    ) throws(DeviceFailure) {
        try count(.begin)
        try below.begin(identity, deviceID: deviceID, reserveBytes: reserveBytes)
    }
    override func start(_ item: ItemToStore) throws(DeviceFailure) {
        try count(.start)
        try below.start(item)
    }
    override func append(_ bytes: UnsafeRawBufferPointer) throws(DeviceFailure) {
        try count(.append)
        firstAppend?()
        firstAppend = nil
        everyAppend?(counts[.append, default: 1] - 1)
        try below.append(bytes)
    }
    override func skip(_ count: UInt64) throws(DeviceFailure) { try below.skip(count) }
    override func finish(_ item: ItemToStore) throws(DeviceFailure) -> UInt64 {
        try count(.finish)
        return try below.finish(item)
    }
    override func drop() throws(DeviceFailure) { try below.drop() }
    override func beginSync() throws(DeviceFailure) {
        if !syncsBeside { return try sync() }
        try count(.sync)
        try below.beginSync()
    }
    override func sync() throws(DeviceFailure) {
        try count(.sync)
        try below.sync()
    }
    override func discard(_ item: RememberedItem) throws(DeviceFailure) { try below.discard(item) }
    override func writeManifest(
        _ encode: ((UnsafeRawBufferPointer) throws -> Void) throws -> Void
    ) throws(DeviceFailure) {
        try count(.manifest)
        try below.writeManifest(encode)
    }
    override func commit() throws(DeviceFailure) {
        try count(.commit)
        try below.commit()
    }
    override func commitLeft(_ setName: String) throws(DeviceFailure) {
        try below.commitLeft(setName)
    }
    override func suspend() { below.suspend() }
    override func freeBytes() throws(DeviceFailure) -> UInt64? { try below.freeBytes() }
    override func sets() throws(DeviceFailure) -> [SetOnDevice] { try below.sets() }
    override func manifest(of set: SetOnDevice) throws(DeviceFailure) -> [UInt8] {
        try below.manifest(of: set)
    }
}

/// What a world's devices are.
enum DeviceKind: CaseIterable {
    case folder, server
    /// On a real object storage.
    case object

    static var allCases: [DeviceKind] {
        [.folder, .server] + (ServedBucket.isHere ? [.object] : [])
    }
}

final class SpreadWorld {
    let folder: String
    let kind: DeviceKind
    private var served: ServedWorld?
    private var bucket: ServedBucket?
    var source: String { folder + "/source" }

    init(_ kind: DeviceKind = .folder) throws {
        self.kind = kind
        served = kind == .server ? try ServedWorld() : nil
        bucket = kind == .object ? try ServedBucket() : nil
        var template = Array("/tmp/logdisk-spread.XXXXXX".utf8CString)
        try #require(mkdtemp(&template) != nil)
        folder = String(decoding: template.dropLast().map { UInt8(bitPattern: $0) }, as: UTF8.self)
        try #require(mkdir(folder + "/source", 0o755) == 0)
    }

    deinit { try? FileManager.default.removeItem(atPath: folder) }

    func path(_ name: String) -> String { folder + "/" + name }

    /// A file of bytes that follow from its name.
    func write(_ name: String, _ count: Int) throws {
        let path = source + "/" + name
        try FileManager.default.createDirectory(
            atPath: (path as NSString).deletingLastPathComponent, withIntermediateDirectories: true)
        var seed = SeededRandom(seed: UInt64(name.utf8.reduce(7) { $0 &* 31 &+ Int($1) } & 0xFFFF))
        let bytes = (0..<count).map { _ in UInt8(truncatingIfNeeded: seed.next()) }
        try Data(bytes).write(to: URL(fileURLWithPath: path))
    }

    /// Seven files: empty, small, and two that are cut.
    func writeSmallTree() throws {
        try write("empty", 0)
        try write("a", 1)
        try write("b/one", 5000)
        try write("b/two", 4096)
        try write("b/c/three", 12_345)
        try write("large", 90_000)
        try write("larger", 150_001)
    }

    func device(_ name: String) throws -> FaultyDevice { FaultyDevice(try plainDevice(name)) }

    /// Another object for each caller: one writes, others read.
    func plainDevice(_ name: String) throws -> BackupDevice {
        if let served { return try served.device(name, called: "dir:" + name) }
        if let bucket { return try bucket.device(name, called: "dir:" + name) }
        let path = path(name)
        if !FileManager.default.fileExists(atPath: path) { try #require(mkdir(path, 0o755) == 0) }
        return FolderDevice(name: "dir:" + name, folder: path)
    }

    func devices(_ count: Int) throws -> [FaultyDevice] {
        try (0..<count).map { try device("device\($0)") }
    }

    /// A fresh start: the devices are empty.
    func clearDevices() throws {
        if kind == .server { served = try ServedWorld() }
        if kind == .object { bucket = try ServedBucket() }
        for name in (try? FileManager.default.contentsOfDirectory(atPath: folder)) ?? []
        where name != "source" { try? FileManager.default.removeItem(atPath: path(name)) }
    }

    // MARK: - runs

    func scanned() throws -> ScannedSources {
        var scanned = try ScannedSources([SpreadSource(path: source, origin: source)])
        scanned.readDetails()
        return scanned
    }

    func prepare(
        _ devices: [BackupDevice], _ options: RunOptions = RunOptions()
    ) throws -> SpreadJob {
        let planned = devices.map { SpreadDevice(name: $0.name) }
        return try SpreadJob.prepare("set", scanned(), devices, planned, options.plan)
    }

    @discardableResult
    func run(
        _ devices: [BackupDevice], _ options: RunOptions = RunOptions(),
        report: @escaping @Sendable (SpreadEvent) -> Void = { _ in }
    ) throws -> SpreadReport {
        let job = try prepare(devices, options)
        let run = SpreadRun(job.identity, job.sources, job.devices, options, report: report)
        return run.run(job.plan, job.origins, resuming: job.resumed)
    }

    /// Small pieces, so that every item is durable by itself.
    static var careful: RunOptions {
        var options = RunOptions()
        options.syncBytes = 0
        options.busySeconds = 0
        return options
    }

    // MARK: - back

    /// Restores from the devices and returns what differs from the source, as words.
    func restored(_ names: [String]) throws -> (report: RestoreReport, differences: [String]) {
        try restored(from: names.map { try plainDevice($0) })
    }

    func restored(
        from devices: [BackupDevice]
    ) throws -> (report: RestoreReport, differences: [String]) {
        let (sets, _) = SetFinder.find(devices, name: "set")
        let one = try #require(sets.first { $0.isComplete })
        let output = path("output")
        try? FileManager.default.removeItem(atPath: output)
        try #require(mkdir(output, 0o755) == 0)
        let restorer = try #require(SetRestorer(one, into: try Folder(output)))
        _ = restorer.select([])
        let report = try restorer.restore()
        return (report, differences(output + "/source"))
    }

    /// Files whose content is not that of the source.
    func differences(_ other: String) -> [String] {
        func files(_ root: String) -> [String: Data] {
            var found: [String: Data] = [:]
            let all = FileManager.default.enumerator(atPath: root)
            while let name = all?.nextObject() as? String {
                var info = stat()
                guard lstat(root + "/" + name, &info) == 0, info.st_mode & S_IFMT == S_IFREG else {
                    continue
                }
                found[name] = FileManager.default.contents(atPath: root + "/" + name)
            }
            return found
        }
        let (mine, theirs) = (files(source), files(other))
        return Set(mine.keys).union(theirs.keys).filter { mine[$0] != theirs[$0] }.sorted()
    }
}
