import java.io.IOException;
import java.net.StandardProtocolFamily;
import java.net.UnixDomainSocketAddress;
import java.nio.ByteBuffer;
import java.nio.channels.Channels;
import java.nio.channels.SocketChannel;
import java.nio.charset.StandardCharsets;
import java.security.KeyFactory;
import java.security.MessageDigest;
import java.security.Signature;
import java.security.spec.RSAPublicKeySpec;
import java.math.BigInteger;
import java.util.Base64;
import java.util.regex.Matcher;
import java.util.regex.Pattern;

/** Has signetd sign a JWS, and verifies it with the public key. It needs Java 17 and no library. */
public final class Issuer {
    private static final Base64.Encoder ENCODER = Base64.getUrlEncoder().withoutPadding();
    private static final Base64.Decoder DECODER = Base64.getUrlDecoder();

    public static void main(String[] args) throws Exception {
        String key = signetd("GET", "/v1/keys/notes", "");
        String input = encode("{\"alg\":\"RS256\",\"kid\":\"" + member(key, "kid") + "\"}") + "." + encode("a signed postcard");

        byte[] signature = sign("notes", input);
        System.out.println(input + "." + ENCODER.encodeToString(signature));

        Signature verifier = Signature.getInstance("SHA256withRSA");
        verifier.initVerify(KeyFactory.getInstance("RSA").generatePublic(new RSAPublicKeySpec(number(key, "n"), number(key, "e"))));
        verifier.update(input.getBytes(StandardCharsets.US_ASCII));
        System.out.println("verifies: " + verifier.verify(signature));
    }

    /** Returns the RS256 signature of a signing input. A JWSSigner of another library calls it. */
    static byte[] sign(String key, String input) throws Exception {
        byte[] digest = MessageDigest.getInstance("SHA-256").digest(input.getBytes(StandardCharsets.US_ASCII));
        String body = "{\"key\":\"" + key + "\",\"alg\":\"RS256\",\"digest\":\"" + ENCODER.encodeToString(digest) + "\"}";
        return DECODER.decode(member(signetd("POST", "/v1/digest/sign", body), "signature"));
    }

    /**
     * Makes one request over the socket and returns the body of the answer, or throws the daemon's message.
     * With HTTP/1.0 the answer ends where the connection ends, which keeps this short.
     */
    static String signetd(String method, String path, String body) throws IOException {
        String socket = System.getenv().getOrDefault("SIGNETD_SOCKET", "/run/signetd/signetd.sock");
        byte[] content = body.getBytes(StandardCharsets.UTF_8);
        String head = method + " " + path + " HTTP/1.0\r\nContent-Length: " + content.length + "\r\n\r\n";
        try (SocketChannel channel = SocketChannel.open(StandardProtocolFamily.UNIX)) {
            channel.connect(UnixDomainSocketAddress.of(socket));
            ByteBuffer request = ByteBuffer.wrap((head + body).getBytes(StandardCharsets.UTF_8));
            while (request.hasRemaining()) {
                channel.write(request);
            }

            String answer = new String(Channels.newInputStream(channel).readAllBytes(), StandardCharsets.UTF_8);
            if (!answer.startsWith("HTTP/1.0 200 ")) {
                throw new IOException(member(answer, "message"));
            }
            return answer.substring(answer.indexOf("\r\n\r\n") + 4);
        }
    }

    private static String encode(String text) {
        return ENCODER.encodeToString(text.getBytes(StandardCharsets.UTF_8));
    }

    private static BigInteger number(String json, String name) {
        return new BigInteger(1, DECODER.decode(member(json, name)));
    }

    /** Returns the first string with that name, if it has no escapes. A real program uses a JSON library. */
    private static String member(String json, String name) {
        Matcher m = Pattern.compile("\"" + name + "\":\"([^\"]*)\"").matcher(json);
        if (!m.find()) {
            throw new IllegalStateException("the answer has no member " + name);
        }
        return m.group(1);
    }
}
