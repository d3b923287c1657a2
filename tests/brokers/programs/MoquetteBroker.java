import io.moquette.broker.Server;
import io.moquette.broker.config.MemoryConfig;
import io.moquette.broker.security.IAuthenticator;
import io.moquette.broker.security.IAuthorizatorPolicy;
import io.moquette.broker.subscriptions.Topic;
import java.util.List;
import java.util.Properties;

/** Moquette with the users of the battery. Arguments: folder, port. */
public class MoquetteBroker implements IAuthenticator, IAuthorizatorPolicy {
  public static void main(String[] args) throws Exception {
    Properties settings = new Properties();
    settings.setProperty("host", "127.0.0.1");
    settings.setProperty("port", args[1]);
    settings.setProperty("data_path", args[0]);
    settings.setProperty("persistence_enabled", "true");
    settings.setProperty("allow_anonymous", "false");
    settings.setProperty("telemetry_enabled", "false");
    settings.setProperty("netty.mqtt.message_size", "1048576");
    MoquetteBroker users = new MoquetteBroker();
    Server broker = new Server();
    broker.startServer(new MemoryConfig(settings), List.of(), null, users, users);
    Runtime.getRuntime().addShutdownHook(new Thread(broker::stopServer));
    Thread.currentThread().join();
  }

  @Override
  public boolean checkValid(String clientId, String user, byte[] password) {
    return password != null && new String(password).equals("right");
  }

  @Override
  public boolean canWrite(Topic topic, String user, String client) {
    return !("nowrite".equals(user) && topic.toString().startsWith("sensors/"));
  }

  @Override
  public boolean canRead(Topic topic, String user, String client) {
    return !("noread".equals(user) && topic.toString().startsWith("sensors/"));
  }
}
