// The kernel's table of interfaces, as it prints it.

import Shipping
import Testing

@Suite struct InterfaceCounterTests {
    private static let table = """
        Inter-|   Receive                                                |  Transmit
         face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs
            lo: 1234567    3456    0    0    0     0          0         0  1234567    3456    0
          eth0:     100       1    0    0    0     0          0         0       23       2    0
         eth0.7:      5       1    0    0    0     0          0         0        6       2    0
          bad0:       5       1
        """

    @Test(arguments: [("lo", 2_469_134), ("eth0", 123), ("eth0.7", 11)])
    func receivedAndSent(_ name: String, _ bytes: UInt64) {
        #expect(NetworkInterfaces.bytes(of: name, in: Self.table) == bytes)
    }

    @Test(arguments: ["", "eth", "eth1", "bad0", "face"]) func none(_ name: String) {
        #expect(NetworkInterfaces.bytes(of: name, in: Self.table) == nil)
    }

    @Test func ofThisMachine() {
        #expect(NetworkInterfaces.exists("lo"))
        #expect(!NetworkInterfaces.exists("no such interface"))
    }
}
