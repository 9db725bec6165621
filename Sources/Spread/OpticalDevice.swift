// A write-once optical image as a backup device: the set is gathered in a folder beside the image
// (FolderDevice), then made into an ISO 9660 image with Rock Ridge names by xorriso or genisoimage,
// and renamed to its name. An image that exists is never written again.
//
// Files lie under their own names where every system can read them; others, and parts of files, are
// segments. Reading back takes the image apart beside it with xorriso, which needs no privilege;
// mounted by loop it is the same as a folder, and `dir:` reads it.

import DiskIO
import Foundation

public final class OpticalDevice: FolderDevice, @unchecked Sendable {
    // @unchecked: used by one thread at a time (BackupDevice).
    private let image: String
    private let capacity: UInt64?
    private let stage: String
    private var used: UInt64 = 0
    private var identity: SetIdentity?
    private var extracted: FolderDevice?
    private var extractedPath: String?
    /// What an image has besides its files, and what each file costs: a sector of 2048 bytes.
    private static let imageBytes: UInt64 = 1 << 20
    private static let sector: UInt64 = 2048

    public init(name: String, image: String, capacity: UInt64?) {
        self.image = image
        self.capacity = capacity
        stage = image + ".stage"
        super.init(name: name, folder: image + ".stage")
    }

    deinit { if let extractedPath { Self.removeTree(extractedPath) } }

    private static func removeTree(_ path: String) {
        try? FileManager.default.removeItem(atPath: path)
    }

    private var isMade: Bool { DiskStorage().exists(image) }

    // MARK: - writing

    override func canBePlain(_ item: ItemToStore) -> Bool {
        let path = item.header.source + [0x2F] + item.header.path
        let parts = path.split(separator: 0x2F)
        return item.isWhole && parts.count <= 5
            && parts.allSatisfy { part in
                part.count <= 100
                    && part.allSatisfy {
                        ($0 >= 0x30 && $0 <= 0x39) || ($0 >= 0x41 && $0 <= 0x5A)
                            || ($0 >= 0x61 && $0 <= 0x7A) || $0 == 0x5F || $0 == 0x2D
                            || $0 == 0x2E
                    }
            }
    }

    public override func unfinished(_ setName: String) throws(DeviceFailure) -> UnfinishedSet? {
        guard !isMade, DiskStorage().isDirectory(stage) else { return nil }
        var found = try super.unfinished(setName)
        found?.hasManifest = false
        return found
    }

    public override func begin(
        _ identity: SetIdentity, deviceID: [UInt8], reserveBytes: UInt64
    ) throws(DeviceFailure) {
        guard !isMade else { throw .readOnly("\(image) is written already") }
        guard Self.program != nil else {
            throw .offline("neither xorriso nor genisoimage is installed")
        }
        let storage = DiskStorage()
        if !storage.exists(stage) {
            let stage = stage
            try on { () throws(IOError) in try storage.createDirectory(stage) }
        }
        let left = try super.unfinished(identity.name)
        used = Self.imageBytes + reserveBytes
        if left?.identity == identity {
            used += left?.items.reduce(0) { $0 + Self.cost($1.size) } ?? 0
        }
        self.identity = identity
        try super.begin(identity, deviceID: deviceID, reserveBytes: 0)
    }

    private static func cost(_ size: UInt64) -> UInt64 {
        (size + sector - 1) / sector * sector + 3 * sector
    }

    public override func start(_ item: ItemToStore) throws(DeviceFailure) {
        let cost = Self.cost(item.header.size)
        if let capacity, used + cost > capacity { throw .full("\(image): its capacity is used up") }
        used += cost
        try super.start(item)
    }

    /// The image is made at the end, in one go.
    public override func timing() throws(DeviceFailure) -> DeviceTiming? { nil }

    public override func freeBytes() throws(DeviceFailure) -> UInt64? {
        let folder = (image as NSString).deletingLastPathComponent
        let path = folder.isEmpty ? "." : folder
        // The set lies there twice for a while: as files and as an image.
        return try on { () throws(IOError) in try DiskStorage().freeBytes(path) / 2 }
    }

    public override func writeManifest(
        _ encode: ((UnsafeRawBufferPointer) throws -> Void) throws -> Void
    ) throws(DeviceFailure) {
        try super.writeManifest(encode)
        guard let identity, let program = Self.program else { return }
        let work = stage + "/" + String(decoding: Self.workName(identity.name), as: UTF8.self)
        let new = image + ".unfinished"
        let storage = DiskStorage()
        if storage.exists(new) { try on { () throws(IOError) in try storage.remove(new) } }
        var words =
            program.words + [
                "-quiet", "-R", "-iso-level", "3", "-V", Self.label(identity.name), "-o", new,
                "-graft-points",
            ]
        for part in ["MANIFEST", "DEVICE", "files", "segments"] {
            words.append(
                "\(Self.graft("/\(identity.name)/\(part)"))=\(Self.graft("\(work)/\(part)"))")
        }
        try Self.run(program.path, words)
        try on { () throws(IOError) in
            let file = try storage.open(new, OpenOptions(.readWrite))
            defer { file.close() }
            if let capacity, try file.size() > capacity { throw IOError(.write, new, 28) }
            try file.sync()
        }
    }

    public override func commit() throws(DeviceFailure) {
        let (image, stage) = (image, stage)
        try on { () throws(IOError) in
            let storage = DiskStorage()
            guard !storage.exists(image) else { throw IOError(.rename, image, 17) }
            try storage.rename(image + ".unfinished", to: image)
            let folder = (image as NSString).deletingLastPathComponent
            try storage.syncDirectory(folder.isEmpty ? "." : folder)
        }
        close()
        Self.removeTree(stage)
    }

    private static func graft(_ path: String) -> String {
        path.replacingOccurrences(of: "\\", with: "\\\\").replacingOccurrences(of: "=", with: "\\=")
    }

    /// A volume label takes 32 letters, digits and underscores.
    private static func label(_ name: String) -> String {
        let letters = name.uppercased().map { character in
            character.isASCII && (character.isLetter || character.isNumber) ? character : "_"
        }
        return String(letters.prefix(32))
    }

    private static var program: (path: String, words: [String])? {
        for (name, words) in [("xorriso", ["-as", "mkisofs"]), ("genisoimage", [])] {
            if let path = find(name) { return (path, words) }
        }
        return nil
    }

    private static func find(_ name: String) -> String? {
        let path = ProcessInfo.processInfo.environment["PATH"] ?? "/usr/local/bin:/usr/bin:/bin"
        return path.split(separator: ":").map { "\($0)/\(name)" }.first { access($0, X_OK) == 0 }
    }

    private static func run(_ program: String, _ words: [String]) throws(DeviceFailure) {
        let process = Process()
        process.executableURL = URL(fileURLWithPath: program)
        process.arguments = words
        process.standardInput = FileHandle.nullDevice
        process.standardOutput = FileHandle.nullDevice
        process.standardError = FileHandle.nullDevice
        do {
            try process.run()
        } catch {
            throw .broken("\(program) cannot be run (\(error))")
        }
        process.waitUntilExit()
        guard process.terminationReason == .exit, process.terminationStatus == 0 else {
            throw .broken("\(program) failed with \(process.terminationStatus)")
        }
    }

    // MARK: - reading

    /// The image's content as a folder; nil where there is no image.
    private func content() throws(DeviceFailure) -> FolderDevice? {
        if let extracted { return extracted }
        guard isMade else { return nil }
        guard let xorriso = Self.find("xorriso") else {
            throw .offline("xorriso is not installed; mount \(image) and name it as dir:")
        }
        let path = "\(image).reading-\(getpid())"
        Self.removeTree(path)
        extractedPath = path
        try Self.run(
            xorriso,
            ["-abort_on", "FATAL", "-osirrox", "on", "-indev", image, "-extract", "/", path])
        let folder = FolderDevice(name: name, folder: path)
        extracted = folder
        return folder
    }

    public override func sets() throws(DeviceFailure) -> [SetOnDevice] {
        if let folder = try content() { return try folder.sets() }
        return DiskStorage().isDirectory(stage) ? try super.sets() : []
    }

    public override func manifest(of set: SetOnDevice) throws(DeviceFailure) -> [UInt8] {
        if let folder = try content() { return try folder.manifest(of: set) }
        return try super.manifest(of: set)
    }

    public override func read(
        _ item: StoredItem, source: [UInt8], path: [UInt8], of set: SetOnDevice,
        header: (SegmentHeader?) -> Void, _ body: (ItemPiece) throws -> Void
    ) throws {
        if let folder = try content() {
            return try folder.read(
                item, source: source, path: path, of: set, header: header, body)
        }
        try super.read(item, source: source, path: path, of: set, header: header, body)
    }

    public override func remove(_ set: SetOnDevice) throws(DeviceFailure) {
        guard !isMade else {
            throw .readOnly("an image is written once: remove \(image) as a whole")
        }
        try super.remove(set)
    }
}
