import java.util.HashSet;
import java.util.Map;
import java.util.Set;
import org.apache.activemq.artemis.core.config.impl.ConfigurationImpl;
import org.apache.activemq.artemis.core.config.impl.SecurityConfiguration;
import org.apache.activemq.artemis.core.security.Role;
import org.apache.activemq.artemis.core.server.embedded.EmbeddedActiveMQ;
import org.apache.activemq.artemis.spi.core.security.ActiveMQJAASSecurityManager;
import org.apache.activemq.artemis.spi.core.security.jaas.InVMLoginModule;

/** ActiveMQ Artemis with the users of the battery. Arguments: folder, acceptors (URLs). */
public class ArtemisBroker {
  public static void main(String[] args) throws Exception {
    ConfigurationImpl config = new ConfigurationImpl();
    config.setPersistenceEnabled(true).setSecurityEnabled(true);
    config.setJournalDirectory(args[0] + "/journal").setBindingsDirectory(args[0] + "/bindings");
    config.setLargeMessagesDirectory(args[0] + "/large").setPagingDirectory(args[0] + "/paging");
    config.setJournalFileSize(1 << 20).setJournalBufferTimeout_AIO(0);
    for (int i = 1; i < args.length; i++) {
      config.addAcceptorConfiguration("mqtt" + i, args[i]);
    }
    // send, consume, create and delete durable queues, then non-durable ones, manage, browse,
    // create and delete addresses
    Role all = role("kpstream", true, true);
    config.putSecurityRoles("#", Set.of(all, role("noread", true, true), role("nowrite", true, true)));
    config.putSecurityRoles(
        "sensors.#", Set.of(all, role("noread", true, false), role("nowrite", false, true)));
    SecurityConfiguration users = new SecurityConfiguration();
    for (String user : new String[] {"kpstream", "noread", "nowrite"}) {
      users.addUser(user, "right");
      users.addRole(user, user);
    }
    EmbeddedActiveMQ broker = new EmbeddedActiveMQ();
    broker.setConfiguration(config);
    broker.setSecurityManager(
        new ActiveMQJAASSecurityManager(InVMLoginModule.class.getName(), users));
    broker.start();
    Runtime.getRuntime().addShutdownHook(new Thread(() -> {
      try {
        broker.stop();
      } catch (Exception e) {
        e.printStackTrace();
      }
    }));
    Thread.currentThread().join();
  }

  private static Role role(String name, boolean send, boolean read) {
    return new Role(name, send, read, read, read, read, read, false, read, true, read);
  }
}
