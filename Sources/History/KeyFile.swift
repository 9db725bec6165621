// The file that holds the key of sealed history. Text, so that it can be printed and typed in:
//
//     logdisk key 1
//     id 35b7f2f5cd6a4c0f9d1c6a1f3f6a0b52
//     key 9c4e...                              64 hexadecimal digits
//
// The id follows from the key, so a wrong digit shows. Nobody but the owner may read the file: one
// that others can read is refused, as it may be known already. It is made once and never written
// over. Whoever loses it loses all that is sealed with it.

import DiskIO
import LogFormat

#if canImport(Glibc)
    import Glibc
#endif

/// Why there is no key to be had from a file.
public enum KeyFileError: Error, Hashable, Sendable {
    case io(IOError)
    case exists(String)
    /// A folder, a device, a pipe.
    case notAFile(String)
    /// Others than the owner may read or write it; `mode` as by chmod.
    case openToOthers(String, mode: UInt32)
    /// It does not begin as a key file does.
    case notAKey(String)
    case futureVersion(String, version: String)
    /// The key in it is not the one of its id, or not whole.
    case damaged(String)
}

extension KeyFileError: CustomStringConvertible {
    public var description: String {
        switch self {
        case .io(let error): error.description
        case .exists(let path): "\(path) exists"
        case .notAFile(let path): "\(path) is not a file"
        case .openToOthers(let path, let mode):
            "others may read \(path): its mode is \(String(mode, radix: 8))"
        case .notAKey(let path): "\(path) is not a key file"
        case .futureVersion(let path, let version):
            "\(path) has version \(version), from a newer logdisk"
        case .damaged(let path): "the key in \(path) is damaged"
        }
    }
}

/// Key files: text <-> key, and the file itself.
public enum KeyFile {
    private static let magic = "logdisk key "
    private static let version = "1"
    private static let bytesMax = 4096

    /// The whole text of a file.
    public static func text(_ key: SealingKey) -> String {
        let digits = key.withBytes { bytes in
            bytes.map { ($0 < 16 ? "0" : "") + String($0, radix: 16) }.joined()
        }
        return "\(magic)\(version)\nid \(key.id)\nkey \(digits)\n"
    }

    /// Reads a text; lines after the key are ignored, and blanks at the ends of lines. `path` is
    /// for messages.
    public static func parse(_ text: String, path: String) throws(KeyFileError) -> SealingKey {
        let lines = text.split(whereSeparator: \.isNewline).map {
            $0.split(whereSeparator: \.isWhitespace).joined(separator: " ")
        }
        guard let head = lines.first, head.hasPrefix(magic) else { throw .notAKey(path) }
        let version = String(head.dropFirst(magic.count))
        guard version == Self.version else { throw .futureVersion(path, version: version) }
        guard let id = value("id", in: lines), let digits = value("key", in: lines),
            let bytes = bytes(digits), let key = bytes.withUnsafeBytes({ SealingKey($0) }),
            "\(key.id)" == id.lowercased()
        else { throw .damaged(path) }
        return key
    }

    private static func value(_ name: String, in lines: [String]) -> String? {
        lines.first { $0.hasPrefix(name + " ") }.map { String($0.dropFirst(name.count + 1)) }
    }

    private static func bytes(_ digits: String) -> [UInt8]? {
        let values = digits.compactMap(\.hexDigitValue)
        guard values.count == digits.count, values.count == 2 * SealingKey.byteCount else {
            return nil
        }
        return stride(from: 0, to: values.count, by: 2).map {
            UInt8(values[$0] << 4 | values[$0 + 1])
        }
    }

    /// Reads the key of a file that nobody but its owner can read.
    public static func read(_ path: String) throws(KeyFileError) -> SealingKey {
        // Not blocking, should it be a pipe.
        let descriptor = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK)
        guard descriptor >= 0 else { throw .io(IOError(.open, path, errno)) }
        defer { close(descriptor) }
        var info = stat()
        guard fstat(descriptor, &info) == 0 else { throw .io(IOError(.open, path, errno)) }
        guard info.st_mode & S_IFMT == S_IFREG else { throw .notAFile(path) }
        guard info.st_mode & 0o077 == 0 else {
            throw .openToOthers(path, mode: info.st_mode & 0o7777)
        }
        var bytes = [UInt8](repeating: 0, count: bytesMax)
        var fill = 0
        while fill < bytes.count {
            let count = bytes.withUnsafeMutableBytes {
                Glibc.read(descriptor, $0.baseAddress! + fill, $0.count - fill)
            }
            if count < 0, errno == EINTR { continue }
            guard count >= 0 else { throw .io(IOError(.read, path, errno)) }
            if count == 0 { break }
            fill += count
        }
        guard let text = String(validating: bytes[..<fill], as: UTF8.self) else {
            throw .notAKey(path)
        }
        return try parse(text, path: path)
    }

    /// Makes a file of mode 0600 at most, durable when this returns; never in the place of another.
    public static func create(
        _ path: String, _ key: SealingKey, in storage: Storage
    ) throws(KeyFileError) {
        let file: StorageFile
        do throws(IOError) {
            file = try storage.open(path, OpenOptions(.readWrite, creation: .exclusively))
        } catch {
            throw storage.exists(path) ? .exists(path) : .io(error)
        }
        defer { file.close() }
        var failure: IOError?
        Array(text(key).utf8).withUnsafeBytes { bytes in
            do throws(IOError) {
                try file.write(bytes, at: 0)
                try file.sync()
                try storage.syncDirectory(Replay.parent(of: path))
            } catch { failure = error }
        }
        if let failure {
            try? storage.remove(path)  // what stays would be refused as damaged
            throw .io(failure)
        }
    }
}
