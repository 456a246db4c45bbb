import java.io.BufferedReader;
import java.io.FileInputStream;
import java.io.InputStream;
import java.io.InputStreamReader;
import java.io.OutputStream;
import java.net.InetAddress;
import java.net.ServerSocket;
import java.net.Socket;
import java.security.KeyStore;
import java.security.cert.X509Certificate;
import javax.net.ssl.KeyManagerFactory;
import javax.net.ssl.SSLContext;
import javax.net.ssl.SSLSocket;
import javax.net.ssl.TrustManager;
import javax.net.ssl.X509TrustManager;

/**
 * JSSE as a peer, for as long as its standard input is open. It prints the port of its control connection.
 *
 * A control connection takes one line and gives one:
 * - "serve VERSION HOW": listens for one connection and answers with its port. Who connects sends anything, and gets
 *   "hello" in an HTTP response.
 * - "connect VERSION HOW PORT": connects, uploads "hello", and answers with what it read until the end, or the exception.
 *
 * HOW it ends: "close" calls close(); "half" calls shutdownOutput(), reads to the end, and then close();
 * "cut" closes the TCP connection under TLS.
 */
public class Jsse {
  static SSLContext context;

  /** Arguments: a PKCS #12 file, its password. */
  public static void main(String[] args) throws Exception {
    char[] password = args[1].toCharArray();
    KeyStore store = KeyStore.getInstance("PKCS12");
    try (FileInputStream file = new FileInputStream(args[0])) {
      store.load(file, password);
    }
    KeyManagerFactory keys = KeyManagerFactory.getInstance("PKIX");
    keys.init(store, password);
    TrustManager everyone =
        new X509TrustManager() {
          public void checkClientTrusted(X509Certificate[] chain, String type) {}

          public void checkServerTrusted(X509Certificate[] chain, String type) {}

          public X509Certificate[] getAcceptedIssuers() {
            return new X509Certificate[0];
          }
        };
    context = SSLContext.getInstance("TLS");
    context.init(keys.getKeyManagers(), new TrustManager[] {everyone}, null);
    ServerSocket control = new ServerSocket(0, 50, InetAddress.getLoopbackAddress());
    System.out.println(control.getLocalPort());
    System.out.flush();
    Thread waits =
        new Thread(
            () -> {
              try {
                while (System.in.read() >= 0) {}
              } catch (Exception error) {
                // It is closed one way or the other.
              }
              System.exit(0);
            });
    waits.start();
    while (true) {
      Socket asking = control.accept();
      new Thread(() -> answer(asking)).start();
    }
  }

  static void answer(Socket asking) {
    try (asking) {
      BufferedReader lines = new BufferedReader(new InputStreamReader(asking.getInputStream()));
      String[] words = lines.readLine().split(" ");
      if (words[0].equals("serve")) {
        ServerSocket server = new ServerSocket(0, 1, InetAddress.getLoopbackAddress());
        new Thread(() -> serve(server, words[1], words[2])).start();
        say(asking, "" + server.getLocalPort());
      } else {
        String told;
        try {
          told = connect(words[1], words[2], Integer.parseInt(words[3]));
        } catch (Exception error) {
          told = error.toString();
        }
        say(asking, told);
      }
    } catch (Exception error) {
      System.err.println(error);
    }
  }

  static void say(Socket asking, String line) throws Exception {
    asking.getOutputStream().write((line + "\n").getBytes("UTF-8"));
  }

  static void serve(ServerSocket server, String version, String how) {
    try (server) {
      Socket raw = server.accept();
      raw.setTcpNoDelay(true);
      SSLSocket socket =
          (SSLSocket) context.getSocketFactory().createSocket(raw, (InputStream) null, true);
      socket.setEnabledProtocols(new String[] {version});
      InputStream in = socket.getInputStream();
      in.read(new byte[1000]);
      socket
          .getOutputStream()
          .write("HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nhello".getBytes("UTF-8"));
      end(raw, socket, how);
    } catch (Exception error) {
      System.err.println(error);
    }
  }

  static String connect(String version, String how, int port) throws Exception {
    Socket raw = new Socket(InetAddress.getLoopbackAddress(), port);
    raw.setTcpNoDelay(true);
    SSLSocket socket =
        (SSLSocket) context.getSocketFactory().createSocket(raw, "localhost", port, true);
    socket.setEnabledProtocols(new String[] {version});
    OutputStream out = socket.getOutputStream();
    out.write("hello".getBytes("UTF-8"));
    return end(raw, socket, how);
  }

  static String end(Socket raw, SSLSocket socket, String how) throws Exception {
    if (how.equals("cut")) {
      raw.close();
      return "cut";
    }
    String rest = "";
    if (how.equals("half")) {
      socket.shutdownOutput();
      rest = new String(socket.getInputStream().readAllBytes(), "UTF-8");
    }
    socket.close();
    return "closed " + rest;
  }
}
