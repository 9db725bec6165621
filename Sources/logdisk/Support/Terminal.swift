// Standard output and error.

import CommandText
import Foundation

enum Terminal {
    /// The verb on the command line, for messages; empty where there is none.
    static let verb: String = {
        let words = CommandLine.arguments.dropFirst()
        return words.first { !$0.hasPrefix("-") } ?? ""
    }()

    /// Prints to standard output; a newline is added where the text has none at its end.
    static func out(_ text: String) {
        print(text, terminator: text.hasSuffix("\n") ? "" : "\n")
    }

    /// Prints a line to standard error, in one write.
    static func error(_ text: String) {
        write(text + "\n", to: STDERR_FILENO)
    }

    /// A remark on standard error that is no failure.
    static func warn(_ text: String) {
        error("logdisk: warning: \(text)")
    }

    /// Prints a value as JSON: sorted keys, slashes as they are.
    static func json(_ value: some Encodable) throws {
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.prettyPrinted, .sortedKeys, .withoutEscapingSlashes]
        out(String(decoding: try encoder.encode(value), as: UTF8.self))
    }

    static let errorIsTerminal = isatty(STDERR_FILENO) == 1

    /// Columns of the terminal behind standard error.
    static var width: Int {
        var size = winsize()
        guard ioctl(STDERR_FILENO, UInt(TIOCGWINSZ), &size) == 0, size.ws_col > 0 else {
            return 80
        }
        return Int(size.ws_col)
    }

    /// All bytes of `text`; gives up silently when the reader is gone.
    static func write(_ text: String, to descriptor: Int32) {
        write(Array(text.utf8), to: descriptor)
    }

    /// All of `bytes`; gives up silently when the reader is gone.
    static func write(_ bytes: [UInt8], to descriptor: Int32) {
        bytes.withUnsafeBytes { bytes in
            var done = 0
            while done < bytes.count {
                let n = Foundation.write(descriptor, bytes.baseAddress! + done, bytes.count - done)
                if n < 0 && errno == EINTR { continue }
                if n <= 0 { return }
                done += n
            }
        }
    }
}
