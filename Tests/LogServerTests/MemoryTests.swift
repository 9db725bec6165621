// The server as a process: fifty clients that send at once do not make it large.

import DiskIO
import Foundation
import LogServer
import ServerAPI
import Testing

@Suite struct MemoryTests {
    private static let residentBytesMax = 256 << 20
    private static let writers = 50
    /// All together more than the server may take.
    private static let bytesEach = 8 << 20

    /// `logdisk serve` over a folder of its own. Ends, and its folder goes, with the value.
    private final class ServerProcess {
        let folder: String
        let process = Process()
        let port: Int

        init() throws {
            var template = Array("/tmp/logdisk-memory.XXXXXX".utf8CString)
            folder = String(cString: try #require(mkdtemp(&template)))
            let own = try FileManager.default.destinationOfSymbolicLink(atPath: "/proc/self/exe")
            let beside = (own as NSString).deletingLastPathComponent + "/logdisk"
            let program = ProcessInfo.processInfo.environment["LOGDISK_BINARY"] ?? beside
            let output = Pipe()
            process.executableURL = URL(fileURLWithPath: program)
            process.arguments = [
                "serve", folder + "/store", "--listen", "127.0.0.1:0", "--insecure", "--reserve",
                "0", "--json",
            ]
            process.standardInput = FileHandle.nullDevice
            process.standardOutput = output
            process.standardError = FileHandle.nullDevice
            try process.run()
            var text = Data()
            while !text.contains(UInt8(ascii: "}")) {
                let more = output.fileHandleForReading.availableData
                if more.isEmpty { break }
                text += more
            }
            let value = try JSONSerialization.jsonObject(with: text) as? [String: Any]
            port = try #require(value?["port"] as? Int)
        }

        deinit {
            process.terminate()
            process.waitUntilExit()
            try? FileManager.default.removeItem(atPath: folder)
        }

        /// The most that it ever took.
        var residentBytes: Int {
            let path = "/proc/\(process.processIdentifier)/status"
            let text = (try? String(contentsOfFile: path, encoding: .utf8)) ?? ""
            let line = text.split(separator: "\n").first { $0.hasPrefix("VmHWM:") } ?? ""
            let kibibytes = line.split(separator: " ").dropFirst().first.flatMap { Int($0) } ?? 0
            return kibibytes << 10
        }
    }

    @Test func fiftyWritersAtOnce() throws {
        let server = try ServerProcess()
        let store = try ServerStore(opening: server.folder + "/store", in: DiskStorage())
        let token = try AccessFolder(store).create(
            name: "all", level: .full, volumes: ["*"], now: 0)
        try TestClient(port: server.port, token: token).make("v")
        let good = Count()
        let port = server.port
        let threads = (0..<Self.writers).map { number in
            Thread {
                let client = TestClient(port: port, token: token)
                let bytes = [UInt8](
                    repeating: UInt8(truncatingIfNeeded: number), count: Self.bytesEach)
                let reply = try? client.append("v", "u\(number)", bytes)
                if reply?.status == 200 { good.add() }
            }
        }
        for thread in threads { thread.start() }
        while !threads.allSatisfy(\.isFinished) { usleep(1000) }
        #expect(good.value == Self.writers)
        let resident = server.residentBytes
        #expect(resident > 0 && resident <= Self.residentBytesMax, "\(resident >> 20) MiB")
    }
}
