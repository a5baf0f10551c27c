import org.jetbrains.kotlin.gradle.dsl.JvmTarget

plugins {
    id("com.android.application")
    id("org.jetbrains.kotlin.android")
}

android {
    namespace = "com.example.lgmsnet"
    compileSdk = 36

    defaultConfig {
        applicationId = "com.example.lgmsnet"
        minSdk = 28 // Android 9: ImageDecoder, which turns pictures upright
        targetSdk = 36
        versionCode = 1
        versionName = "1.0"
    }

    compileOptions {
        sourceCompatibility = JavaVersion.VERSION_17
        targetCompatibility = JavaVersion.VERSION_17
    }

    androidResources {
        noCompress += "tflite" // so that the model is mapped, not unpacked
    }
}

kotlin {
    compilerOptions {
        jvmTarget = JvmTarget.JVM_17
    }
}

dependencies {
    implementation("androidx.activity:activity:1.12.1")
    implementation("androidx.core:core:1.17.0")
    implementation("com.google.ai.edge.litert:litert:2.3.0")
}
