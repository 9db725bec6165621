// qemu-img, where it is installed: the one program that knows the other image formats.

import CommandText
import Foundation

struct ImageConverter {
    private let program: String

    /// Looks through PATH.
    static func find(object: String) throws(CommandFailure) -> ImageConverter {
        let folders = (ProcessInfo.processInfo.environment["PATH"] ?? "").split(separator: ":")
        for folder in folders where access("\(folder)/qemu-img", X_OK) == 0 {
            return ImageConverter(program: "\(folder)/qemu-img")
        }
        throw CommandFailure(
            .unreachable, object, "qcow2 needs qemu-img, which is not installed",
            hint: "apt-get install qemu-utils, or --format raw")
    }

    /// Makes the qcow2 image `target`, a new file, of the raw image `source`.
    func convert(_ source: String, to target: String, object: String) throws(CommandFailure) {
        let process = Process()
        process.executableURL = URL(fileURLWithPath: program)
        process.arguments = ["convert", "-f", "raw", "-O", "qcow2", source, target]
        process.standardInput = FileHandle.nullDevice
        process.standardOutput = FileHandle.nullDevice
        let messages = Pipe()
        process.standardError = messages
        try translating(object) { try process.run() }
        while process.isRunning {
            // Not SIGTERM: that is blocked in this process, and so in its children.
            if Interruption.isRequested { kill(process.processIdentifier, SIGKILL) }
            usleep(20_000)
        }
        process.waitUntilExit()
        try Interruption.check()
        guard process.terminationReason == .exit, process.terminationStatus == 0 else {
            // A few lines at the most: they were waiting in the pipe.
            let text = String(
                decoding: messages.fileHandleForReading.availableData, as: UTF8.self)
            let line = text.split(separator: "\n").last.map(String.init)
            throw CommandFailure(
                .failed, object, "qemu-img failed", cause: line,
                hint: "is there room where \(target) lies? --format raw needs no qemu-img")
        }
    }
}
