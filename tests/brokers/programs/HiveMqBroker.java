import com.hivemq.embedded.EmbeddedExtension;
import com.hivemq.embedded.EmbeddedHiveMQ;
import com.hivemq.extension.sdk.api.ExtensionMain;
import com.hivemq.extension.sdk.api.auth.SimpleAuthenticator;
import com.hivemq.extension.sdk.api.auth.parameter.SimpleAuthInput;
import com.hivemq.extension.sdk.api.auth.parameter.SimpleAuthOutput;
import com.hivemq.extension.sdk.api.auth.parameter.TopicPermission;
import com.hivemq.extension.sdk.api.packets.auth.DefaultAuthorizationBehaviour;
import com.hivemq.extension.sdk.api.packets.connect.ConnackReasonCode;
import com.hivemq.extension.sdk.api.parameter.ExtensionStartInput;
import com.hivemq.extension.sdk.api.parameter.ExtensionStartOutput;
import com.hivemq.extension.sdk.api.parameter.ExtensionStopInput;
import com.hivemq.extension.sdk.api.parameter.ExtensionStopOutput;
import com.hivemq.extension.sdk.api.services.Services;
import com.hivemq.extension.sdk.api.services.builder.Builders;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;

/** HiveMQ CE with the users of the battery. Arguments: folder with config.xml. */
public class HiveMqBroker implements ExtensionMain, SimpleAuthenticator {
  public static void main(String[] args) throws Exception {
    Path folder = Path.of(args[0]);
    Path data = Files.createDirectories(folder.resolve("data"));
    Path extensions = Files.createDirectories(folder.resolve("extensions"));
    EmbeddedExtension users = EmbeddedExtension.builder()
        .withId("users").withName("users").withVersion("1").withAuthor("kpstream tests")
        .withExtensionMain(new HiveMqBroker()).build();
    EmbeddedHiveMQ broker = EmbeddedHiveMQ.builder()
        .withConfigurationFolder(folder).withDataFolder(data).withExtensionsFolder(extensions)
        .withEmbeddedExtension(users).build();
    Runtime.getRuntime().addShutdownHook(new Thread(() -> broker.stop().join()));
    broker.start().join();
    Thread.currentThread().join();
  }

  @Override
  public void extensionStart(ExtensionStartInput in, ExtensionStartOutput out) {
    Services.securityRegistry().setAuthenticatorProvider(ignored -> this);
  }

  @Override
  public void extensionStop(ExtensionStopInput in, ExtensionStopOutput out) {}

  @Override
  public void onConnect(SimpleAuthInput in, SimpleAuthOutput out) {
    String user = in.getConnectPacket().getUserName().orElse("");
    String password = in.getConnectPacket().getPassword()
        .map(bytes -> StandardCharsets.UTF_8.decode(bytes.duplicate()).toString()).orElse("");
    if (!password.equals("right")) {
      out.failAuthentication(ConnackReasonCode.BAD_USER_NAME_OR_PASSWORD);
      return;
    }
    if (user.equals("noread") || user.equals("nowrite")) {
      out.getDefaultPermissions().add(Builders.topicPermission().topicFilter("sensors/#")
          .activity(user.equals("noread")
              ? TopicPermission.MqttActivity.SUBSCRIBE : TopicPermission.MqttActivity.PUBLISH)
          .type(TopicPermission.PermissionType.DENY).build());
    }
    out.getDefaultPermissions().setDefaultBehaviour(DefaultAuthorizationBehaviour.ALLOW);
    out.authenticateSuccessfully();
  }
}
