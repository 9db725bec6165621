// Devices as named on the command line; levels; paths as text.

import Spread
import Testing

@Suite struct DeviceSpecTests {
    @Test func allOptions() throws {
        let text = "dir:/mnt/a?capacity=25G&site=b&rate=40MB/s&weight=2"
        let spec = try DeviceSpec(parsing: text)
        #expect(spec.name == text)
        #expect(spec.driver == .dir && spec.address == "/mnt/a")
        #expect(spec.capacity == 25 << 30 && spec.site == "b")
        #expect(spec.rate == 40_000_000 && spec.weight == 2_000_000)
    }

    @Test(
        arguments: [
            ("https://h:1/v?token-file=f", DeviceSpec.Driver.https, "//h:1/v"),
            ("stream:/dev/nst0", .stream, "/dev/nst0"), ("iso:x.iso?", .iso, "x.iso"),
            ("dir:/what?now?", .dir, "/what?now"), ("dir:a:b", .dir, "a:b"),
        ])
    func addresses(_ text: String, _ driver: DeviceSpec.Driver, _ address: String) throws {
        let spec = try DeviceSpec(parsing: text)
        #expect(spec.driver == driver && spec.address == address)
    }

    @Test(
        arguments: [
            ("1", 1), ("40MB/s", 40_000_000), ("40M/s", 40 << 20), ("40MiB/s", 40 << 20),
            ("1.5GB/s", 1_500_000_000), ("2kB", 2000), ("0.0005KB/s", nil), ("0", nil),
            ("x", nil), ("-1MB/s", nil), ("MB/s", nil), ("", nil), ("1.2345678MB", nil),
        ] as [(String, UInt64?)])
    func rates(_ text: String, _ rate: UInt64?) throws {
        let spec = try? DeviceSpec(parsing: "dir:/a?rate=\(text)")
        #expect(spec?.rate == rate)
    }

    @Test(
        arguments: [
            ("", "no driver before a colon"), ("/mnt/a", "no driver before a colon"),
            (":/a", "no driver before a colon"), ("ftp:/a", "unknown driver 'ftp'"),
            ("dir:", "no address after the driver"), ("https://", "no address after the driver"),
            ("dir:/a?colour=red", "unknown option 'colour'"),
            ("dir:/a?token=f", "unknown option 'token'"),
            ("dir:/a?site=b&site=c", "option 'site' is given twice"),
            ("dir:/a?capacity=many", "capacity=many: not a number"),
            ("dir:/a?capacity=-5", "capacity=-5: a size cannot be negative"),
            ("dir:/a?site", "site=: no site given"),
            ("dir:/a?weight=0", "weight=0: not a number above 0 with at most six decimals"),
            ("dir:/a?weight=1.2.3", "weight=1.2.3: not a number above 0 with at most six decimals"),
        ])
    func refused(_ text: String, _ reason: String) {
        do throws(DeviceSpec.Failure) {
            _ = try DeviceSpec(parsing: text)
            Issue.record("\(text) was taken")
        } catch {
            #expect(error.reason == reason)
        }
    }

    @Test func weightsOfVeryFastDevicesStayInRange() throws {
        let specs = try ["dir:/a?rate=15E", "dir:/b?rate=1"].map { try DeviceSpec(parsing: $0) }
        let devices = SpreadDevice.devices(specs)
        #expect(devices.allSatisfy { (1...SpreadDevice.weightMax).contains($0.weight) })
    }
}

@Suite struct PathTextTests {
    @Test(
        arguments: [
            ([0x61, 0x2F, 0x62], "a/b"),
            (Array("größe %20 \\ \u{1F600}".utf8), "größe %20 \\ \u{1F600}"),
            ([0x61, 0xFF], "a\u{0}ff"), ([0xC3], "\u{0}c3"), ([0xC0, 0xAF], "\u{0}c0\u{0}af"),
            ([0xED, 0xA0, 0x80], "\u{0}ed\u{0}a0\u{0}80"), ([0xF5, 0x0A], "\u{0}f5\n"), ([], ""),
        ] as [([UInt8], String)])
    func table(_ path: [UInt8], _ text: String) {
        #expect(PathText.text(path) == text)
        #expect(PathText.bytes(text) == path)
    }

    @Test func everyPathComesBack() {
        var random = Seeded(1)
        for _ in 0..<20_000 {
            let path = (0..<Int(random.below(12))).map { _ in
                UInt8(random.below(2) == 0 ? 0x80 + random.below(128) : 1 + random.below(127))
            }
            #expect(PathText.bytes(PathText.text(path)) == path)
        }
    }

    @Test(arguments: ["\u{0}", "\u{0}f", "\u{0}FF", "\u{0}41", "\u{0}zz"])
    func noText(_ text: String) { #expect(PathText.bytes(text) == nil) }
}
