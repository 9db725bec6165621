// Names that go into paths.

import ServerAPI
import Testing

@Suite struct ServerAPITests {
    @Test(arguments: ["a", "db1", "Mail-2.example_x", String(repeating: "x", count: 100)])
    func goodNames(_ name: String) { #expect(ServerAPI.isVolumeName(name)) }

    @Test(arguments: [
        "", ".", "..", ".logdisk", "-x", "_x", "a/b", "a b", "a\0", "ä", "%2e%2e",
        String(repeating: "x", count: 101),
    ]) func badNames(_ name: String) { #expect(!ServerAPI.isVolumeName(name)) }
}
