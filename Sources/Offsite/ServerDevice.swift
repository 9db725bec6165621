// A log server as a backup device, `https://HOST:PORT/NAME`: its sets lie beside the server's
// volumes, as files that only become whole with the right digest (ServerAPI/Backups.swift).
//
//   an item           file NUMBER: its SegmentHeader as the head, then its bytes. No file under its
//                     own name: a name of a file may be any bytes, one at the server is a word
//   what is durable   file journal-N: the Journal's records of the items since the one before,
//                     without a head (the server knows the set's ids)
//   the manifest      file MANIFEST; the commit of the set at the server makes all of it visible
//
// Bytes go up in requests of 4 MiB; an item below that is one request. A cut costs nothing: what
// the server has not acknowledged is still here, and goes on at the byte where the server stands.
//
//   what the server says                       what the device is
//   nothing: refused for 10 s, silent for 20 s  offline
//   503 busy for 30 s                          offline (busy, when a set is begun)
//   503 full                                   full
//   401, 403, a bad certificate                denied; read-only, when a set is begun with a token
//                                              that only reads
//   another run has taken the set over         offline
//   anything else                              failed
//
// Once offline, an object stays it: nobody waits for a server again and again. Threads: one, as
// BackupDevice says.

import CLinux
import Crypto
import DiskIO
import ServerAPI
import Shipping
import Spread

public final class ServerDevice: BackupDevice, @unchecked Sendable {
    // @unchecked: used by one thread at a time (BackupDevice).
    let client: LogServerClient
    private var identity: SetIdentity?
    private var setID = ""
    private var journal: [UInt8] = []
    private var nextJournal: UInt64 = 1
    private var file: OutgoingFile?
    private var isCommitted = false
    private var lost: DeviceFailure?

    static let requestBytes = 4 << 20
    private static let unreachableNanoseconds: Int64 = 10_000_000_000
    private static let busyNanoseconds: Int64 = 30_000_000_000
    /// A hole below this is sent as bytes.
    private static let holeMin: UInt64 = 64 << 10

    /// Reads the token and the certificates; connects to nothing yet.
    public init(
        name: String, _ url: RemoteURL, access: RemoteAccess
    ) throws(RemoteSetupError) {
        var access = access
        access.connectSeconds = 5
        access.idleSeconds = 20
        let words = (0..<2).map { _ in String(UInt64.random(in: 0...UInt64.max), radix: 16) }
        client = try LogServerClient(
            url, access: access, writer: "r" + words.joined(separator: "-"))
        super.init(name: name)
    }

    // MARK: - asking

    /// Asks the server, again where waiting helps.
    func ask<R>(
        waitingForOthers: Bool = true, _ body: () throws(ShipError) -> R
    ) throws(DeviceFailure) -> R {
        if let lost { throw lost }
        let start = clinux_monotonic_ns()
        var pause: Int64 = 200_000_000
        while true {
            do throws(ShipError) {
                return try body()
            } catch {
                let spent = clinux_monotonic_ns() - start
                switch error {
                case .unreachable where spent < Self.unreachableNanoseconds:
                    clinux_sleep_ns(pause)
                    pause = min(2 * pause, 2_000_000_000)
                case .busy where waitingForOthers && spent < Self.busyNanoseconds:
                    clinux_sleep_ns(1_000_000_000)
                default:
                    let failure = Self.failure(error, isBegin: !waitingForOthers)
                    if case .offline = failure { lost = failure }
                    throw failure
                }
            }
        }
    }

    private static func failure(_ error: ShipError, isBegin: Bool) -> DeviceFailure {
        switch error {
        case .unreachable(let text): .offline(text)
        case .busy(_, let text): isBegin ? .busy(text) : .offline("busy: \(text)")
        case .full(_, let text): .full(text)
        case .refused(let text): .denied(text)
        case .fenced(let text): .offline(text)
        case .rejected(let reply) where reply.code == .noPath:
            .broken("this server takes no sets of backups: it is too old")
        case .rejected(let reply): .broken(reply.what)
        case .source, .stopped: .broken("\(error)")
        }
    }

    // MARK: - writing

    public override func unfinished(_ setName: String) throws(DeviceFailure) -> UnfinishedSet? {
        guard let found = try left(setName), let id = [UInt8](hexText: found.id),
            let deviceID = [UInt8](hexText: found.deviceID)
        else { return nil }
        let identity = SetIdentity(name: setName, id: id, created: found.createdNanoseconds)
        var bytes = Journal.head(identity, deviceID: deviceID)
        for name in try journals(of: found.id) { bytes += try contents(name, of: found.id) }
        var set = Journal.decode(bytes)
        set?.hasManifest = found.hasManifest
        return set
    }

    /// The set of this name that is not visible.
    private func left(_ setName: String) throws(DeviceFailure) -> SetReply? {
        try ask { () throws(ShipError) in try client.backup() }.sets
            .first { $0.name == setName && !$0.isComplete }
    }

    private func journals(of id: String) throws(DeviceFailure) -> [String] {
        try ask { () throws(ShipError) in try client.files(ofSet: id) }.files.map(\.name)
            .compactMap { ServerAPI.journalNumber($0) }.sorted().map(ServerAPI.journalFile)
    }

    public override func begin(
        _ identity: SetIdentity, deviceID: [UInt8], reserveBytes: UInt64
    ) throws(DeviceFailure) {
        let state = try ask { () throws(ShipError) in try client.backup() }
        guard state.access != "read-only" else {
            throw .readOnly("the token of \(name) only reads")
        }
        let id = identity.id.hexText
        let left = state.sets.first { $0.name == identity.name && !$0.isComplete }
        if let left, left.id != id || left.deviceID != deviceID.hexText {
            // Of an earlier run whose set is not gone on with.
            try ask(waitingForOthers: false) { () throws(ShipError) in
                try client.removeSet(left.id)
            }
        }
        let request = SetRequest(
            name: identity.name, deviceID: deviceID.hexText, createdNanoseconds: identity.created)
        let begun = try ask(waitingForOthers: false) { () throws(ShipError) in
            try client.beginSet(id, request)
        }
        guard !begun.isComplete else { throw .broken("the set is complete there already") }
        (self.identity, setID) = (identity, id)
        try prune()
    }

    /// Removes from the set all files that its journals do not name.
    private func prune() throws(DeviceFailure) {
        let kept = Set((try unfinished(identity?.name ?? "")?.items ?? []).map(\.place))
        nextJournal = 1
        for file in try ask({ () throws(ShipError) in try client.files(ofSet: setID) }).files {
            if let number = ServerAPI.journalNumber(file.name) {
                nextJournal = max(nextJournal, number + 1)
            } else if !(ServerAPI.itemNumber(file.name).map { kept.contains($0 + 1) } ?? false) {
                try removeFile(file.name)
            }
        }
    }

    private func removeFile(_ name: String) throws(DeviceFailure) {
        try ask { () throws(ShipError) in try client.removeFile(name, ofSet: setID) }
    }

    public override func start(_ item: ItemToStore) throws(DeviceFailure) {
        guard identity != nil else { throw .broken("\(name): not begun") }
        file = OutgoingFile(
            set: setID, name: ServerAPI.itemFile(item.header.position),
            headBytes: item.header.encodedBytes)
    }

    public override func append(_ bytes: UnsafeRawBufferPointer) throws(DeviceFailure) {
        var rest = UnsafeRawBufferPointer(rebasing: bytes[...])
        while !rest.isEmpty, let room = file.map({ Self.requestBytes - $0.pending.count }) {
            let piece = rest.prefix(room)
            file?.pending.append(contentsOf: piece)
            rest = UnsafeRawBufferPointer(rebasing: rest.dropFirst(piece.count))
            if !rest.isEmpty || piece.count == room { try flush() }
        }
    }

    public override func skip(_ count: UInt64) throws(DeviceFailure) {
        guard file != nil else { return }
        if count < Self.holeMin {
            let zeros = [UInt8](repeating: 0, count: Int(count))
            var failure: DeviceFailure?
            zeros.withUnsafeBytes { bytes in
                do throws(DeviceFailure) { try append(bytes) } catch { failure = error }
            }
            if let failure { throw failure }
            return
        }
        try flush()
        var left = count
        while left > 0 {
            let piece = min(left, ServerAPI.zerosMax)
            try file?.sendZeros(piece, self)
            left -= piece
        }
    }

    private func flush() throws(DeviceFailure) {
        guard file?.pending.isEmpty == false else { return }
        try file?.send(self)
    }

    public override func finish(_ item: ItemToStore) throws(DeviceFailure) -> UInt64 {
        let place = item.header.position + 1
        guard let remembered = item.remembered(place: place), file != nil else {
            throw .broken("\(name): an item without digest, or none begun")
        }
        try file?.finish(
            head: item.header.encoded(), sha256: remembered.digest.bytes.hexText, self)
        file = nil
        journal += Journal.item(remembered)
        return place
    }

    public override func drop() throws(DeviceFailure) {
        guard let dropped = file else { return }
        file = nil
        if dropped.isBegun { try removeFile(dropped.name) }
    }

    public override func discard(_ item: RememberedItem) throws(DeviceFailure) {
        guard item.place > 0 else { return }
        try removeFile(ServerAPI.itemFile(item.place - 1))
        journal += Journal.item(item, isTakenBack: true)
    }

    public override func sync() throws(DeviceFailure) {
        guard !journal.isEmpty else { return }
        var file = OutgoingFile(
            set: setID, name: ServerAPI.journalFile(nextJournal), headBytes: 0)
        file.pending = journal
        try file.finish(
            head: [], sha256: Array(SHA256.hash(data: journal)).hexText, self)
        nextJournal += 1
        journal = []
    }

    public override func writeManifest(
        _ encode: ((UnsafeRawBufferPointer) throws -> Void) throws -> Void
    ) throws(DeviceFailure) {
        try sync()
        // One of before a failure elsewhere.
        try removeFile(ServerAPI.manifestFile)
        file = OutgoingFile(set: setID, name: ServerAPI.manifestFile, headBytes: 0)
        var hash = SHA256()
        do {
            try encode { bytes in
                hash.update(bufferPointer: bytes)
                try append(bytes)
            }
        } catch let failure as DeviceFailure {
            throw failure
        } catch {
            throw .broken("\(error)")
        }
        try file?.finish(head: [], sha256: Array(hash.finalize()).hexText, self)
        file = nil
    }

    public override func commit() throws(DeviceFailure) {
        _ = try ask { () throws(ShipError) in try client.commitSet(setID) }
        isCommitted = true
    }

    public override func commitLeft(_ setName: String) throws(DeviceFailure) {
        guard let found = try left(setName) else { throw .broken("there is no such set there") }
        let request = SetRequest(
            name: found.name, deviceID: found.deviceID,
            createdNanoseconds: found.createdNanoseconds)
        _ = try ask(waitingForOthers: false) { () throws(ShipError) in
            try client.beginSet(found.id, request)
        }
        setID = found.id
        try commit()
    }

    public override func suspend() {
        file = nil
        // Without it a later run waits a moment.
        if identity != nil, !isCommitted, lost == nil { try? client.releaseSet(setID) }
        client.closeIdleConnections()
    }

    public override func abandon() throws(DeviceFailure) {
        file = nil
        try ask { () throws(ShipError) in try client.removeSet(setID) }
    }

    public override func freeBytes() throws(DeviceFailure) -> UInt64? {
        try ask { () throws(ShipError) in try client.backup() }.freeBytes
    }

    public override func timing() throws(DeviceFailure) -> DeviceTiming? {
        try measuredTiming()
    }

    // MARK: - reading (ServerDevice+Read.swift)

    public override func sets() throws(DeviceFailure) -> [SetOnDevice] {
        try ask { () throws(ShipError) in try client.backup() }.sets.map { set in
            SetOnDevice(
                name: set.name,
                state: !set.isComplete ? .unfinished : set.hasManifest ? .complete : .damaged,
                location: set.id, setID: [UInt8](hexText: set.id),
                deviceID: [UInt8](hexText: set.deviceID))
        }
    }

    public override func manifest(of set: SetOnDevice) throws(DeviceFailure) -> [UInt8] {
        try contents(ServerAPI.manifestFile, of: set.location)
    }

    public override func read(
        _ item: StoredItem, source: [UInt8], path: [UInt8], of set: SetOnDevice,
        header: (SegmentHeader?) -> Void, _ body: (ItemPiece) throws -> Void
    ) throws {
        guard item.place > 0 else { throw DeviceFailure.broken("it is not there") }
        try readItem(item, ServerAPI.itemFile(item.place - 1), set.location, header, body)
    }

    public override func remove(_ set: SetOnDevice) throws(DeviceFailure) {
        try ask(waitingForOthers: set.state == .complete) { () throws(ShipError) in
            try client.removeSet(set.location)
        }
    }
}
