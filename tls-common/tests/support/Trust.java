// Asks Java's default trust manager about each directory given: `trust.pem` is the truststore, `chain.pem` the peer.
// Prints one line for each: both roles' verdicts.
import java.io.InputStream;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.KeyStore;
import java.security.cert.Certificate;
import java.security.cert.CertificateException;
import java.security.cert.CertificateFactory;
import java.security.cert.X509Certificate;
import java.util.Collection;
import javax.net.ssl.TrustManagerFactory;
import javax.net.ssl.X509TrustManager;

class Trust {
    public static void main(String[] directories) throws Exception {
        for (String directory : directories) {
            KeyStore store = KeyStore.getInstance("PKCS12");
            store.load(null, null);
            int alias = 0;
            for (Certificate certificate : read(Path.of(directory, "trust.pem"))) {
                store.setCertificateEntry("trusted" + alias++, certificate);
            }
            X509Certificate[] chain = read(Path.of(directory, "chain.pem")).toArray(new X509Certificate[0]);
            TrustManagerFactory factory = TrustManagerFactory.getInstance("PKIX");
            factory.init(store);
            X509TrustManager manager = (X509TrustManager) factory.getTrustManagers()[0];
            boolean client = accepts(() -> manager.checkClientTrusted(chain, "UNKNOWN"));
            boolean server = accepts(() -> manager.checkServerTrusted(chain, "UNKNOWN"));
            System.out.println(client + " " + server);
        }
    }

    interface Check {
        void run() throws CertificateException;
    }

    static boolean accepts(Check check) {
        try {
            check.run();
            return true;
        } catch (CertificateException refused) {
            return false;
        }
    }

    static Collection<? extends Certificate> read(Path path) throws Exception {
        try (InputStream in = Files.newInputStream(path)) {
            return CertificateFactory.getInstance("X.509").generateCertificates(in);
        }
    }
}
