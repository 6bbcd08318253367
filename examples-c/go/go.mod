module powerinfer.example/powerinfer

go 1.19
