// Which interface leads where, from the kernel's tables as they are printed.

import Shipping
import Testing

@Suite struct NetworkInterfacesTests {
    private static let ipv4 = """
        Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\tMTU\tWindow\tIRTT
        eth0\t00000000\t0101A8C0\t0003\t0\t0\t100\t00000000\t0\t0\t0
        wlan0\t00000000\t0102A8C0\t0003\t0\t0\t600\t00000000\t0\t0\t0
        eth0\t0001A8C0\t00000000\t0001\t0\t0\t100\t00FFFFFF\t0\t0\t0
        tun0\t0000000A\t00000000\t0001\t0\t0\t0\t000000FF\t0\t0\t0
        down0\t0000010A\t00000000\t0000\t0\t0\t0\t0000FFFF\t0\t0\t0
        """
    private static let ipv6 = """
        20010db8000100000000000000000000 40 00000000000000000000000000000000 00 \
        00000000000000000000000000000000 00000100 00000001 00000000 00000001 eth1
        fe800000000000000000000000000000 40 00000000000000000000000000000000 00 \
        00000000000000000000000000000000 00000100 00000001 00000000 00000001 eth0
        00000000000000000000000000000000 00 00000000000000000000000000000000 00 \
        fe800000000000000000000000000001 00000064 00000001 00000000 00000003 eth0
        00000000000000000000000000000000 00 00000000000000000000000000000000 00 \
        00000000000000000000000000000000 ffffffff 00000001 00000000 00200200 lo
        """

    @Test(
        arguments: [
            ("127.0.0.1", "lo"), ("::1", "lo"), ("192.168.1.77", "eth0"), ("10.9.8.7", "tun0"),
            ("10.1.2.3", "tun0"), ("8.8.8.8", "eth0"), ("2001:db8:1::5", "eth1"),
            ("2001:db8:2::5", "eth0"), ("fe80::1%eth0", "eth0"), ("::ffff:192.168.1.1", "eth0"),
        ])
    func leadsTo(address: String, interface: String) throws {
        let table = RouteTable(ipv4: Self.ipv4, ipv6: Self.ipv6)
        let address = try #require(NetworkAddress(address))
        #expect(table.interface(to: address) == interface)
    }

    @Test func nowhere() throws {
        let address = try #require(NetworkAddress("10.0.0.1"))
        #expect(RouteTable(ipv4: "", ipv6: "").interface(to: address) == nil)
        #expect(RouteTable(ipv4: "x\ny z\n\u{0}", ipv6: "fe80 zz").interface(to: address) == nil)
        #expect(NetworkAddress("example") == nil)
        #expect(!NetworkInterfaces.exists("../lo"))
        #expect(NetworkInterfaces.bytes("lo") != nil)
        #expect(NetworkInterfaces.bytes("no-such-interface") == nil)
    }
}
