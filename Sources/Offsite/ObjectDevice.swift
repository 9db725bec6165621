// Object storage as a backup device, `s3://BUCKET/PREFIX`. Below the prefix:
//
//   sets/ID                what the set is: JSON, with its state and who writes it
//   data/ID/item-NUMBER    an item: its SegmentHeader, then its bytes; holes are zeros
//   data/ID/journal-N      the Journal's records of the items since the one before: what is durable
//   data/ID/MANIFEST       the manifest
//
// An object is there whole or not at all, so an item is durable when it is finished; the journal
// makes it known. A set becomes visible by its own object, which is put once more as `complete`
// when all else is there. Removing one takes that back first. An item goes up in parts while it is
// written; the first part waits here until the end, when the header knows the digest.
//
// Who writes a set is in its object: a run that finds another's name there has been overtaken and
// ends. (Between looking and putting is a moment in which two runs could both go on; they write the
// same items to the same keys, and the set that comes of it says what is in it.)
//
// Threads: one, as BackupDevice says.

import Foundation
import ObjectStorage
import ServerAPI
import Shipping
import Spread

public final class ObjectDevice: BackupDevice, @unchecked Sendable {
    // @unchecked: used by one thread at a time (BackupDevice).
    let folder: ObjectFolder
    /// Who we are in `sets/ID`.
    private let run: String
    private var identity: SetIdentity?
    private var record: SetRecord?
    private var journal: [UInt8] = []
    private var nextJournal = 1
    private var item: OutgoingObject?
    private var lost: DeviceFailure?

    /// `sets/ID`.
    private struct SetRecord: Codable {
        enum State: String, Codable { case unfinished, complete }
        var format = 1
        var name: String
        var id: String
        var device: String
        var created: Int64
        var state = State.unfinished
        var run: String
    }

    private static let manifestName = "MANIFEST"

    /// Reads keys and certificates; connects to nothing yet.
    public init(
        name: String, _ url: ObjectURL, access: ObjectAccess
    ) throws(RemoteSetupError) {
        var access = access
        access.connectSeconds = 5
        access.idleSeconds = 20
        folder = ObjectFolder(try ObjectClient(url, access: access))
        run = Self.random()
        super.init(name: name)
    }

    static func random() -> String {
        (0..<16).map { _ in UInt8.random(in: .min ... .max) }.hexText
    }

    // MARK: - asking

    /// Asks the store. The client tries again by itself; once offline, an object stays it.
    func ask<R>(_ body: () throws(ShipError) -> R) throws(DeviceFailure) -> R {
        if let lost { throw lost }
        do throws(ShipError) { return try body() } catch {
            let failure: DeviceFailure =
                switch error {
                case .unreachable(let text): .offline(text)
                case .busy(_, let text): .offline("busy: \(text)")
                case .full(_, let text): .full(text)
                case .refused(let text): .denied(text)
                case .fenced(let text): .offline(text)
                case .rejected(let reply): .broken(reply.what)
                case .source, .stopped: .broken("\(error)")
                }
            if case .offline = failure { lost = failure }
            throw failure
        }
    }

    private func place(_ file: String, of id: String) -> String { "data/\(id)/\(file)" }

    private func records() throws(DeviceFailure) -> [SetRecord] {
        var found: [SetRecord] = []
        for entry in try ask({ () throws(ShipError) in try folder.list("sets/") }) {
            let bytes = try ask { () throws(ShipError) in try folder.get(entry.name) }
            // One that is not understood is not ours to touch.
            guard let bytes,
                let record = try? JSONDecoder().decode(SetRecord.self, from: Data(bytes)),
                entry.name == "sets/\(record.id)"
            else { continue }
            found.append(record)
        }
        return found
    }

    private func put(_ record: SetRecord) throws(DeviceFailure) {
        // Plain values of our own: they always encode.
        let bytes = Array((try? JSONEncoder().encode(record)) ?? Data())
        try ask { () throws(ShipError) in try folder.put("sets/\(record.id)", bytes) }
        self.record = record
    }

    /// Nobody else has gone on with this set.
    private func checkRun() throws(DeviceFailure) {
        guard let record else { throw .broken("\(name): not begun") }
        let bytes = try ask { () throws(ShipError) in try folder.get("sets/\(record.id)") }
        let there = bytes.flatMap { try? JSONDecoder().decode(SetRecord.self, from: Data($0)) }
        guard there?.run == run else {
            let failure = DeviceFailure.offline("another run has taken the set over")
            lost = failure
            throw failure
        }
    }

    // MARK: - writing

    public override func unfinished(_ setName: String) throws(DeviceFailure) -> UnfinishedSet? {
        guard let found = try left(setName), let id = [UInt8](hexText: found.id),
            let deviceID = [UInt8](hexText: found.device)
        else { return nil }
        let identity = SetIdentity(name: setName, id: id, created: found.created)
        var bytes = Journal.head(identity, deviceID: deviceID)
        var hasManifest = false
        for entry in try files(of: found.id) {
            if entry.file == Self.manifestName { hasManifest = true }
            guard Self.number(entry.file, "journal-") != nil else { continue }
            bytes += try contents(entry.file, of: found.id)
        }
        var set = Journal.decode(bytes)
        set?.hasManifest = hasManifest
        return set
    }

    /// The set of this name that is not visible.
    private func left(_ setName: String) throws(DeviceFailure) -> SetRecord? {
        try records().first { $0.name == setName && $0.state == .unfinished }
    }

    /// In the order of their names: numbers have all digits.
    private func files(of id: String) throws(DeviceFailure) -> [(file: String, bytes: UInt64)] {
        let prefix = place("", of: id)
        return try ask { () throws(ShipError) in try folder.list(prefix) }
            .map { (String($0.name.dropFirst(prefix.count)), $0.byteCount) }
    }

    static func file(_ kind: String, _ number: UInt64) -> String {
        let digits = String(number)
        return kind + String(repeating: "0", count: max(0, 12 - digits.count)) + digits
    }

    private static func number(_ file: String, _ kind: String) -> UInt64? {
        file.hasPrefix(kind) ? UInt64(file.dropFirst(kind.count)) : nil
    }

    public override func begin(
        _ identity: SetIdentity, deviceID: [UInt8], reserveBytes: UInt64
    ) throws(DeviceFailure) {
        let id = identity.id.hexText
        for other in try records() where other.name == identity.name && other.state == .unfinished {
            // Of an earlier run whose set is not gone on with.
            if other.id != id || other.device != deviceID.hexText { try remove(other) }
        }
        self.identity = identity
        try put(
            SetRecord(
                name: identity.name, id: id, device: deviceID.hexText, created: identity.created,
                run: run))
        try prune()
    }

    /// Removes from the set all objects that its journals do not name.
    private func prune() throws(DeviceFailure) {
        guard let identity, let id = record?.id else { return }
        let kept = Set((try unfinished(identity.name)?.items ?? []).map(\.place))
        nextJournal = 1
        for entry in try files(of: id) {
            if let number = Self.number(entry.file, "journal-") {
                nextJournal = max(nextJournal, Int(clamping: number) + 1)
            } else if !(Self.number(entry.file, "item-").map { kept.contains($0 + 1) } ?? false) {
                try remove(entry.file, of: id)
            }
        }
    }

    private func remove(_ file: String, of id: String) throws(DeviceFailure) {
        try ask { () throws(ShipError) in try folder.remove(place(file, of: id)) }
    }

    public override func start(_ item: ItemToStore) throws(DeviceFailure) {
        guard let id = record?.id else { throw .broken("\(name): not begun") }
        self.item = OutgoingObject(
            folder, place(Self.file("item-", item.header.position), of: id),
            expectedBytes: item.header.size)
    }

    public override func append(_ bytes: UnsafeRawBufferPointer) throws(DeviceFailure) {
        guard let item else { return }
        try ask { () throws(ShipError) in try item.append(bytes) }
    }

    public override func skip(_ count: UInt64) throws(DeviceFailure) {
        let zeros = [UInt8](repeating: 0, count: Int(min(count, 1 << 20)))
        var left = count
        while left > 0 {
            let piece = Int(min(left, UInt64(zeros.count)))
            var failure: DeviceFailure?
            zeros.withUnsafeBytes { bytes in
                do throws(DeviceFailure) {
                    try append(UnsafeRawBufferPointer(rebasing: bytes[..<piece]))
                } catch { failure = error }
            }
            if let failure { throw failure }
            left -= UInt64(piece)
        }
    }

    public override func finish(_ item: ItemToStore) throws(DeviceFailure) -> UInt64 {
        let place = item.header.position + 1
        guard let remembered = item.remembered(place: place), let outgoing = self.item else {
            throw .broken("\(name): an item without digest, or none begun")
        }
        try ask { () throws(ShipError) in try outgoing.finish(head: item.header.encoded()) }
        self.item = nil
        journal += Journal.item(remembered)
        return place
    }

    public override func drop() throws(DeviceFailure) {
        item?.abandon()
        item = nil
    }

    public override func discard(_ item: RememberedItem) throws(DeviceFailure) {
        guard item.place > 0, let id = record?.id else { return }
        try remove(Self.file("item-", item.place - 1), of: id)
        journal += Journal.item(item, isTakenBack: true)
    }

    public override func sync() throws(DeviceFailure) {
        guard !journal.isEmpty, let id = record?.id else { return }
        try checkRun()
        let file = place(Self.file("journal-", UInt64(nextJournal)), of: id)
        try ask { () throws(ShipError) in try folder.put(file, journal) }
        nextJournal += 1
        journal = []
    }

    public override func writeManifest(
        _ encode: ((UnsafeRawBufferPointer) throws -> Void) throws -> Void
    ) throws(DeviceFailure) {
        try sync()
        guard let id = record?.id else { throw .broken("\(name): not begun") }
        let outgoing = OutgoingObject(folder, place(Self.manifestName, of: id), expectedBytes: 0)
        item = outgoing
        do {
            try encode { bytes in try append(bytes) }
        } catch let failure as DeviceFailure {
            throw failure
        } catch {
            throw .broken("\(error)")
        }
        try ask { () throws(ShipError) in try outgoing.finish(head: []) }
        item = nil
    }

    public override func commit() throws(DeviceFailure) {
        try checkRun()
        guard var record else { return }
        record.state = .complete
        try put(record)
    }

    public override func commitLeft(_ setName: String) throws(DeviceFailure) {
        guard var found = try left(setName) else { throw .broken("there is no such set there") }
        found.run = run
        try put(found)
        try commit()
    }

    public override func suspend() {
        item?.abandon()
        item = nil
    }

    public override func abandon() throws(DeviceFailure) {
        try drop()
        guard let record else { return }
        try checkRun()
        try remove(record)
    }

    /// A set that goes is first no set any more.
    private func remove(_ record: SetRecord) throws(DeviceFailure) {
        if record.state == .complete {
            var taken = record
            (taken.state, taken.run) = (.unfinished, run)
            try put(taken)
        }
        for entry in try files(of: record.id) { try remove(entry.file, of: record.id) }
        try ask { () throws(ShipError) in try folder.remove("sets/\(record.id)") }
        self.record = nil
    }

    // MARK: - reading

    public override func sets() throws(DeviceFailure) -> [SetOnDevice] {
        var sets: [SetOnDevice] = []
        for record in try records() {
            var state = SetOnDevice.State.unfinished
            if record.state == .complete {
                let manifest = place(Self.manifestName, of: record.id)
                let size = try ask { () throws(ShipError) in try folder.size(manifest) }
                state = size == nil ? .damaged : .complete
            }
            sets.append(
                SetOnDevice(
                    name: record.name, state: state, location: record.id,
                    setID: [UInt8](hexText: record.id), deviceID: [UInt8](hexText: record.device)))
        }
        return sets
    }

    public override func manifest(of set: SetOnDevice) throws(DeviceFailure) -> [UInt8] {
        try contents(Self.manifestName, of: set.location)
    }

    private func reading(_ file: String, of id: String) -> ItemReading {
        let name = place(file, of: id)
        return ItemReading { target, offset throws(DeviceFailure) in
            try self.ask { () throws(ShipError) in
                try self.folder.read(name, into: target, at: offset)
            }
        }
    }

    private func contents(_ file: String, of id: String) throws(DeviceFailure) -> [UInt8] {
        try reading(file, of: id).contents()
    }

    public override func read(
        _ item: StoredItem, source: [UInt8], path: [UInt8], of set: SetOnDevice,
        header: (SegmentHeader?) -> Void, _ body: (ItemPiece) throws -> Void
    ) throws {
        guard item.place > 0 else { throw DeviceFailure.broken("it is not there") }
        try reading(Self.file("item-", item.place - 1), of: set.location).read(item, header, body)
    }

    public override func remove(_ set: SetOnDevice) throws(DeviceFailure) {
        for record in try records() where record.id == set.location { try remove(record) }
    }

    public override func timing() throws(DeviceFailure) -> DeviceTiming? {
        let id = "measure-\(Self.random())"
        var names: [String] = []
        // Best effort: what stays is not a set, and nobody looks at it.
        defer { for name in names { try? folder.remove(name) } }
        func write(_ bytes: UnsafeRawBufferPointer, _ number: UInt64) throws(DeviceFailure) {
            let file = place(Self.file("item-", number), of: id)
            names.append(file)
            let object = OutgoingObject(folder, file, expectedBytes: UInt64(bytes.count))
            try ask { () throws(ShipError) in
                try object.append(bytes)
                try object.finish(head: [])
            }
        }
        return try ItemCost.timing(
            small: { number, bytes throws(DeviceFailure) in try write(bytes, UInt64(number)) },
            large: { bytes throws(DeviceFailure) in try write(bytes, 1 << 20) },
            sync: { () throws(DeviceFailure) in })
    }
}
