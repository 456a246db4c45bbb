/**
 * A key pair for the demo's servers on the loopback interface, since Node can make keys but no
 * certificates. THE PRIVATE KEY IS PUBLIC: it is printed here, so it protects nothing. Never trust
 * its certificate (which can sign no others), and never use the key for anything else.
 *
 * Self-signed, for localhost and 127.0.0.1, valid from 2020 to 2120.
 */
export const DEMO_CERT = `-----BEGIN CERTIFICATE-----
MIIB5zCCAY2gAwIBAgIBAjAKBggqhkjOPQQDAjBLMRIwEAYDVQQDDAlsb2NhbGhv
c3QxNTAzBgNVBAoMLGNsb3NlLW5vdGlmeSBwdWJsaWMgZGVtbyBrZXkgKHdvcnRo
IG5vdGhpbmcpMCAXDTIwMDEwMTAwMDAwMFoYDzIxMjAwMTAxMDAwMDAwWjBLMRIw
EAYDVQQDDAlsb2NhbGhvc3QxNTAzBgNVBAoMLGNsb3NlLW5vdGlmeSBwdWJsaWMg
ZGVtbyBrZXkgKHdvcnRoIG5vdGhpbmcpMFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcD
QgAE2iTOk5ql85LUR3vG6Jb8LrOGt0k7C5Bvp/X32/CM0JOzUm75irD0x1F6jGm7
J6N930hOuz+7bosSzFEAoPi6V6NgMF4wDAYDVR0TAQH/BAIwADATBgNVHSUEDDAK
BggrBgEFBQcDATAaBgNVHREEEzARgglsb2NhbGhvc3SHBH8AAAEwHQYDVR0OBBYE
FIXEwkuM8bDJYijDQQkhKqvqR9iTMAoGCCqGSM49BAMCA0gAMEUCICwbVKgwK9a8
zxl/X8gn4Fst6GOSLW+cPrpApZYIZjbYAiEA4wDvZC4Mi1em4aThFCSSbXqpxbhs
iTfHxJSab3bghIc=
-----END CERTIFICATE-----
`;

/** Public and worth nothing: see above. */
export const DEMO_KEY = `-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgke2VxOawih1aBO4N
QCyuEcNV7cKlzm54bPCxlMLXwqihRANCAATaJM6TmqXzktRHe8bolvwus4a3STsL
kG+n9ffb8IzQk7NSbvmKsPTHUXqMabsno33fSE67P7tuixLMUQCg+LpX
-----END PRIVATE KEY-----
`;
