// A TLS peer in Java that a test drives: one command per line on standard input, one answer per line on standard output,
// "ok ..." or "failed ...". Contexts have names and keep their sessions, so a second connection may resume the first.
//
//   keytool ARGUMENT...                                  what the program of that name does, without a JVM of its own
//   context NAME PROTOCOL KEYSTORE TRUSTSTORE PASSWORD   both ends of TLS with these files, of any type that Java reads
//   connect NAME PORT                                    an SSLSocket to localhost: what the server says, and its certificate
//   https NAME HOST PORT                                 an HttpsURLConnection: what the server answers, and its certificate
//   listen NAME                                          an SSLServerSocket that asks for certificates: its port
//
// A server says "PROTOCOL SHA-256-OF-THE-CLIENT", then gives back each line that it hears.
import java.io.BufferedReader;
import java.io.File;
import java.io.IOException;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.net.InetAddress;
import java.net.URL;
import java.security.KeyStore;
import java.security.MessageDigest;
import java.security.cert.Certificate;
import java.util.Arrays;
import java.util.HashMap;
import java.util.HexFormat;
import java.util.Map;
import javax.net.ssl.HttpsURLConnection;
import javax.net.ssl.KeyManagerFactory;
import javax.net.ssl.SSLContext;
import javax.net.ssl.SSLServerSocket;
import javax.net.ssl.SSLSocket;
import javax.net.ssl.TrustManagerFactory;

class Peer {
    /** A peer that neither speaks nor goes is given up after this many milliseconds. */
    static final int PATIENCE = 120_000;

    record Context(String protocol, SSLContext tls) {}

    static final Map<String, Context> contexts = new HashMap<>();

    public static void main(String[] none) throws Exception {
        PrintStream answers = System.out;
        System.setOut(System.err); // keytool is talkative
        BufferedReader commands = new BufferedReader(new InputStreamReader(System.in));
        for (String line; (line = commands.readLine()) != null; ) {
            answers.println(answer(line.split(" ")));
        }
        System.exit(0); // whatever the servers' threads do
    }

    static String answer(String[] words) {
        try {
            return "ok " + switch (words[0]) {
                case "keytool" -> keytool(Arrays.copyOfRange(words, 1, words.length));
                case "context" -> context(words[1], words[2], words[3], words[4], words[5].toCharArray());
                case "connect" -> connect(contexts.get(words[1]), Integer.parseInt(words[2]));
                case "https" -> https(contexts.get(words[1]), words[2], Integer.parseInt(words[3]));
                case "listen" -> listen(contexts.get(words[1]));
                default -> throw new IllegalArgumentException(words[0]);
            };
        } catch (Exception failure) {
            String text = "failed";
            for (Throwable cause = failure; cause != null; cause = cause.getCause()) {
                text += " " + cause;
            }
            return text.replaceAll("\\s+", " ");
        }
    }

    /** A failure ends the process, as keytool's own. */
    static String keytool(String[] arguments) throws Exception {
        sun.security.tools.keytool.Main.main(arguments);
        return "";
    }

    static String context(String name, String protocol, String keystore, String truststore, char[] password)
            throws Exception {
        KeyManagerFactory keys = KeyManagerFactory.getInstance(KeyManagerFactory.getDefaultAlgorithm());
        keys.init(KeyStore.getInstance(new File(keystore), password), password);
        TrustManagerFactory trust = TrustManagerFactory.getInstance(TrustManagerFactory.getDefaultAlgorithm());
        trust.init(KeyStore.getInstance(new File(truststore), password));
        SSLContext tls = SSLContext.getInstance(protocol);
        tls.init(keys.getKeyManagers(), trust.getTrustManagers(), null);
        contexts.put(name, new Context(protocol, tls));
        return "";
    }

    static String connect(Context context, int port) throws Exception {
        try (SSLSocket socket = (SSLSocket) context.tls().getSocketFactory().createSocket("localhost", port)) {
            ready(socket, context);
            BufferedReader in = new BufferedReader(new InputStreamReader(socket.getInputStream()));
            String greeting = in.readLine();
            socket.getOutputStream().write("hello\n".getBytes());
            String echo = in.readLine();
            return String.join(" ", greeting, echo, socket.getSession().getProtocol(), peer(socket));
        }
    }

    static String https(Context context, String host, int port) throws Exception {
        URL url = new URL("https", host, port, "/");
        HttpsURLConnection connection = (HttpsURLConnection) url.openConnection();
        connection.setSSLSocketFactory(context.tls().getSocketFactory());
        connection.setReadTimeout(PATIENCE);
        connection.setRequestProperty("Connection", "close");
        String body = new String(connection.getInputStream().readAllBytes());
        String protocol = connection.getSSLSession().orElseThrow().getProtocol();
        return String.join(" ", body, protocol, sha256(connection.getServerCertificates()[0]));
    }

    static String listen(Context context) throws Exception {
        SSLServerSocket server = (SSLServerSocket)
                context.tls().getServerSocketFactory().createServerSocket(0, 50, InetAddress.getByName("127.0.0.1"));
        server.setNeedClientAuth(true);
        server.setEnabledProtocols(new String[] {context.protocol()});
        new Thread(() -> {
            while (true) {
                try (SSLSocket socket = (SSLSocket) server.accept()) {
                    serve(socket, context);
                } catch (Exception refused) {
                    System.err.println("port " + server.getLocalPort() + ": " + refused);
                }
            }
        }).start();
        return Integer.toString(server.getLocalPort());
    }

    static void serve(SSLSocket socket, Context context) throws Exception {
        ready(socket, context);
        String greeting = socket.getSession().getProtocol() + " " + peer(socket) + "\n";
        socket.getOutputStream().write(greeting.getBytes());
        BufferedReader in = new BufferedReader(new InputStreamReader(socket.getInputStream()));
        for (String line; (line = in.readLine()) != null; ) {
            socket.getOutputStream().write((line + "\n").getBytes());
        }
    }

    static void ready(SSLSocket socket, Context context) throws IOException {
        socket.setSoTimeout(PATIENCE);
        socket.setTcpNoDelay(true);
        socket.setEnabledProtocols(new String[] {context.protocol()});
        socket.startHandshake();
    }

    static String peer(SSLSocket socket) throws Exception {
        return sha256(socket.getSession().getPeerCertificates()[0]);
    }

    static String sha256(Certificate certificate) throws Exception {
        return HexFormat.of().formatHex(MessageDigest.getInstance("SHA-256").digest(certificate.getEncoded()));
    }
}
