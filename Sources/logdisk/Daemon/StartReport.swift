// How a mount in the background tells the command that started it whether it runs.
//
// The command hands the child the write end of a pipe as descriptor 3. The child writes one line:
// `ready MOUNTPOINT`, or the exit code; after a code follows the message, word for word as the
// command shall print it. An end without a line means that the child died.

import CommandText
import Foundation

/// What a child says of its start.
enum StartReport: Equatable {
    case ready
    case failed(ExitStatus, message: String)
    case died

    /// Descriptor of the pipe in the child.
    static let descriptor: Int32 = 3

    var bytes: [UInt8] {
        switch self {
        case .ready: Array("ready\n".utf8)
        case .failed(let status, let message): Array("\(status.rawValue)\n\(message)".utf8)
        case .died: []
        }
    }

    init(bytes: [UInt8]) {
        let text = String(decoding: bytes, as: UTF8.self)
        let lines = text.split(separator: "\n", maxSplits: 1, omittingEmptySubsequences: false)
        if lines.first == "ready" {
            self = .ready
        } else if lines.count == 2, let code = Int32(lines[0]), let status = ExitStatus(rawValue: code) {
            self = .failed(status, message: String(lines[1]))
        } else {
            self = .died
        }
    }

    /// Writes it to the pipe and closes that.
    func send() {
        Terminal.write(String(decoding: bytes, as: UTF8.self), to: Self.descriptor)
        close(Self.descriptor)
    }
}
