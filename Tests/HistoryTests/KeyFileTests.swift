// Key files: text and back, each wrong digit, who may read them, and a disk that fails.

import DiskIO
import History
import HistoryModel
import LogFormat
import Testing

#if canImport(Glibc)
    import Glibc
#endif

@Suite struct KeyFileTests {
    /// Made by another program from the words in SealedFormat.swift: the key 0, 1, ... 31.
    private static let golden = """
        logdisk key 1
        id a565a145c07a2691dbed827503baeaf5
        key 000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f

        """

    private static func bytes(_ key: SealingKey) -> [UInt8] { key.withBytes { Array($0) } }

    @Test func textAndBack() throws {
        let key = try KeyFile.parse(Self.golden, path: "k")
        #expect(Self.bytes(key) == (0..<32).map { UInt8($0) })
        #expect(KeyFile.text(key) == Self.golden)
        // As somebody may have typed it in from paper.
        let typed =
            "logdisk key 1\r\n\r\nid  "
            + Self.golden.dropFirst(17).uppercased()
            .split(separator: "KEY").joined(separator: "key") + "\nof the house\n"
        #expect(try Self.bytes(KeyFile.parse(typed, path: "k")) == Self.bytes(key))
        let other = SealingKey.random()
        #expect(Self.bytes(try KeyFile.parse(KeyFile.text(other), path: "k")) == Self.bytes(other))
        #expect(other.id != SealingKey.random().id)
    }

    /// Whichever digit of the key or its id is wrong.
    @Test func everyWrongDigitShows() {
        let text = Array(Self.golden)
        for i in 14..<text.count where text[i].isHexDigit {
            var bad = text
            bad[i] = bad[i] == "7" ? "8" : "7"
            if bad == text { continue }
            #expect(throws: KeyFileError.damaged("k"), "character \(i)") {
                try KeyFile.parse(String(bad), path: "k")
            }
        }
    }

    @Test func otherTexts() {
        for text in ["", "\n", "logdisk", "a token", "{\"key\": 1}", "logdisk lease 1\n"] {
            #expect(throws: KeyFileError.notAKey("k")) { try KeyFile.parse(text, path: "k") }
        }
        #expect(throws: KeyFileError.futureVersion("k", version: "2")) {
            try KeyFile.parse("logdisk key 2\nid 0\nkey 0\n", path: "k")
        }
        for cut in [14, 20, 50, 60, 110] {
            #expect(throws: KeyFileError.damaged("k")) {
                try KeyFile.parse(String(Self.golden.prefix(cut)), path: "k")
            }
        }
    }

    @Test func filesOnDisk() throws {
        let folder = try TemporaryFolder()
        let path = "\(folder.path)/key"
        let key = SealingKey.random()
        #expect(throws: KeyFileError.io(IOError(.open, path, ENOENT))) { try KeyFile.read(path) }
        try KeyFile.create(path, key, in: DiskStorage())
        var info = stat()
        #expect(stat(path, &info) == 0 && info.st_mode & 0o7777 == 0o600)
        #expect(try Self.bytes(KeyFile.read(path)) == Self.bytes(key))
        #expect(throws: KeyFileError.exists(path)) {
            try KeyFile.create(path, .random(), in: DiskStorage())
        }
        #expect(try Self.bytes(KeyFile.read(path)) == Self.bytes(key))
        for mode in [0o640, 0o604, 0o620, 0o601, 0o644, 0o666] as [UInt32] {
            chmod(path, mode)
            #expect(throws: KeyFileError.openToOthers(path, mode: mode)) { try KeyFile.read(path) }
        }
        chmod(path, 0o400)
        #expect(try Self.bytes(KeyFile.read(path)) == Self.bytes(key))
        #expect(throws: KeyFileError.notAFile(folder.path)) { try KeyFile.read(folder.path) }
    }

    @Test func aFailureLeavesNoFile() throws {
        for operation in [IOError.Operation.write, .sync, .syncDirectory] {
            let storage = SimulatedStorage(seed: 3)
            try storage.createDirectory("/h")
            storage.inject(PlannedFault(operation, .error(28)))
            #expect(throws: KeyFileError.self) {
                try KeyFile.create("/h/key", .random(), in: storage)
            }
            #expect(try storage.list("/h") == [], "after a failed \(operation)")
        }
    }
}
